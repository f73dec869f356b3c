export type Invite = {
    /** `lingualinked://join?…`, under 300 bytes. */
    link: string,
    /** 24 letters and digits in groups, for phones without a camera. */
    typed_code: string,
    expires_unix_ms: number,
};
