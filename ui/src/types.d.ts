declare module "virtual:licences" {
    const licences: Array<{ name: string; version: string; licence: string; text: string }>;
    export default licences;
}
