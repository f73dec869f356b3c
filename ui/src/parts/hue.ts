/** Every phone has a colour, the same on all screens for as long as the app is open. */
import type { PhoneId } from "../bindings/PhoneId";

/** Degrees of OKLCH, far enough apart to tell seven phones from each other; ember's own (40) is left out. */
const HUES = [165, 295, 85, 235, 350, 125, 265];

/** Phones whose colour is remembered: as many as discovery lists, and a group besides. */
const KNOWN_MAX = 256;

const known = new Map<PhoneId, number>();

/** The next free colour goes to whoever is seen first. */
export function hueOf(id: PhoneId): number {
    let place = known.get(id);
    if (place === undefined) {
        place = known.size;
        if (known.size < KNOWN_MAX) known.set(id, place);
    }
    return HUES[place % HUES.length] ?? 0;
}
