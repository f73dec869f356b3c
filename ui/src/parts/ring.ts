/** Where phones stand on the ring, and where a token is. Angles are in degrees, clockwise from the top. */
import type { Stage } from "../bindings/Stage";

/** Part of the ring that the smallest stage gets, so that names do not overlap. */
const SHARE_MIN = 0.11;

/** Between two stages. */
const GAP_DEG = 5;

/** How long a token's picture takes round the ring: in life it is about 0.1 s, too fast to follow. */
export const LAP_MS = 1800;

/** Dots on their way at once. More would be a line. */
export const DOTS_MAX = 14;

export interface Arc {
    phone: string;
    from: number;
    to: number;
    middle: number;
}

/** Arcs in ring order, in proportion to layers; the first is centred at the top. */
export function arcs(stages: readonly Stage[]): Arc[] {
    const layers = stages.map(({ layers }) => Math.max(layers[1] - layers[0], 0));
    const all = layers.reduce((a, b) => a + b, 0);
    const least = Math.min(SHARE_MIN, 1 / Math.max(stages.length, 1));
    const shares = layers.map((count) => Math.max(all === 0 ? 0 : count / all, least));
    const sum = shares.reduce((a, b) => a + b, 0);
    const sizes = shares.map((share) => (share / sum) * 360);
    let from = -(sizes[0] ?? 0) / 2;
    return stages.map(({ phone }, i) => {
        const size = sizes[i] ?? 0;
        const gap = stages.length === 1 ? 0 : GAP_DEG / 2;
        const arc = { phone, from: from + gap, to: from + size - gap, middle: from + size / 2 };
        from += size;
        return arc;
    });
}

export function point(angle: number, radius: number): { x: number; y: number } {
    const rad = (angle * Math.PI) / 180;
    return { x: radius * Math.sin(rad), y: -radius * Math.cos(rad) };
}

/** Where a name stands beside its phone. All in units of the picture, whose middle is 0, 0. */
export interface Label {
    side: "middle" | "start" | "end";
    /** The middle of the name, or its edge towards the middle of the ring. */
    x: number;
    /** The edge towards the phone. */
    y: number;
    above: boolean;
}

/**
 * A name stands outside of the ring, where it hides neither the ring nor what is in it: at the sides it grows outwards,
 * and above or below its phone, wherever the ring bends away. Only the head's, at the top, stands inside.
 */
export function label(angle: number, radius: number, phoneHeight: number, phoneWidth: number): Label {
    const { x, y } = point(angle, radius);
    const across = Math.sin((angle * Math.PI) / 180);
    const along = Math.abs(Math.cos((angle * Math.PI) / 180));
    const top = Math.abs(across) < 0.25 && y < 0;
    const above = y < -1 && !top;
    const gap = phoneHeight / 2 + 2;
    const edge = above ? y - gap : y + gap;
    if (Math.abs(across) < 0.25) return { side: "middle", x, y: edge, above };
    // At the equator the ring runs straight through where the name would begin.
    const inner = Math.abs(x) + (along < 0.35 ? 7 : -phoneWidth / 2);
    return { side: across > 0 ? "start" : "end", x: Math.sign(across) * inner, y: edge, above };
}

/** An SVG path along the ring. */
export function path({ from, to }: Pick<Arc, "from" | "to">, radius: number): string {
    const end = to - from >= 360 ? from + 359.99 : to;
    const a = point(from, radius);
    const b = point(end, radius);
    const large = end - from > 180 ? 1 : 0;
    return `M${a.x.toFixed(2)} ${a.y.toFixed(2)}A${radius} ${radius} 0 ${large} 1 ${b.x.toFixed(2)} ${b.y.toFixed(2)}`;
}

/** When dots set out, oldest first. Several tokens of one beat follow each other evenly. */
export class Dots {
    private starts: number[] = [];

    /** `lap_ms`: what a token takes in life, and so how far apart tokens are. */
    beat(tokens: number, lap_ms: number, now: number): void {
        for (let i = 0; i < Math.min(tokens, DOTS_MAX); i++) this.starts.push(now + i * lap_ms);
        this.starts.splice(0, this.starts.length - DOTS_MAX);
    }

    /** Parts of the lap that dots have done, from 0 to 1; those that have arrived are dropped. */
    laps(now: number): number[] {
        this.starts = this.starts.filter((start) => now - start < LAP_MS);
        return this.starts.filter((start) => start <= now).map((start) => (now - start) / LAP_MS);
    }

    get none(): boolean {
        return this.starts.length === 0;
    }
}
