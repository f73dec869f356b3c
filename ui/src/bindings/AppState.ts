import type { BlockedPhone } from "./BlockedPhone";
import type { ConversationSummary } from "./ConversationSummary";
import type { Device } from "./Device";
import type { Group } from "./Group";
import type { Invite } from "./Invite";
import type { Model } from "./Model";
import type { NearbyPhone } from "./NearbyPhone";
import type { NetworkState } from "./NetworkState";
import type { Pairing } from "./Pairing";
import type { Permission } from "./Permission";
import type { PhoneId } from "./PhoneId";
import type { Run } from "./Run";
import type { Settings } from "./Settings";
import type { Storage } from "./Storage";

/** Everything a screen may show, but for the words of conversations. Sent whole; the last one wins. */
export type AppState = {
    /** Name of this phone, as its person chose it; empty before they did. */
    name: string,
    me: PhoneId,
    app_version: string,
    /** Whether the welcome screen has been gone through. */
    welcomed: boolean,
    permissions: Array<Permission>,
    network: NetworkState,
    device: Device,
    /** Whether this phone looks for others. */
    looking: boolean,
    nearby: Array<NearbyPhone>,
    pairings: Array<Pairing>,
    invite: Invite | null,
    blocked: Array<BlockedPhone>,
    group: Group | null,
    /** What runs, or is being made ready, in the group or on this phone alone. */
    run: Run | null,
    models: Array<Model>,
    storage: Storage,
    /** Newest first. */
    conversations: Array<ConversationSummary>,
    settings: Settings,
};
