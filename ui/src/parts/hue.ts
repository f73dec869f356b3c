/** Every phone has a colour, the same on all of this phone's screens. */
import type { PhoneId } from "../bindings/PhoneId";

/** Degrees of OKLCH, far enough apart to tell seven phones from each other; ember's own (40) is left out. */
const HUES = [165, 295, 85, 235, 350, 125, 265];

/** Members differ as far as there are colours; strangers get one by their id. */
export function hueOf(id: PhoneId, members: ReadonlyArray<{ id: PhoneId }>): number {
    const place = members.findIndex((member) => member.id === id);
    return HUES[(place < 0 ? hash(id) : place) % HUES.length] ?? 165;
}

/** FNV-1a, because ids may share their beginning. */
function hash(text: string): number {
    let h = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
    return h >>> 0;
}
