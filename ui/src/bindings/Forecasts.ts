import type { Outlook } from "./Outlook";
import type { OutlookWithout } from "./OutlookWithout";
import type { Verdict } from "./Verdict";

/** What to expect of a model before anybody commits to it. */
export type Forecasts = {
    group: Outlook,
    alone: Outlook,
    /** Without each of the other phones, if it is in the plan. */
    without: Array<OutlookWithout>,
    /** Why each phone got what it got. */
    verdicts: Array<Verdict>,
};
