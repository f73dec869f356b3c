import type { PhoneId } from "./PhoneId";
import type { VersionMatch } from "./VersionMatch";

/** What discovery tells of a phone. Nothing in it is proven. */
export type NearbyPhone = {
    id: PhoneId,
    name: string,
    /** Phones in the group that it is in, itself included; 0 if it is in none. */
    group_phones: number,
    /** Whether it is in this phone's own group. */
    in_my_group: boolean,
    version: VersionMatch,
};
