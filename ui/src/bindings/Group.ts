import type { Happening } from "./Happening";
import type { Member } from "./Member";
import type { PhoneId } from "./PhoneId";

export type Group = {
    /** In the order in which they joined. This phone is one of them. */
    members: Array<Member>,
    /** Null while a leader is sought. */
    leader: PhoneId | null,
    /** What happened, newest last; at most 50. */
    happened: Array<Happening>,
    /** This phone will leave when the answer that is being written is done. */
    leaving: boolean,
};
