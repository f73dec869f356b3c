import type { Outlook } from "./Outlook";
import type { PhoneId } from "./PhoneId";

export type OutlookWithout = { phone: PhoneId, outlook: Outlook };
