/** Luck that repeats: the same seed gives the same group (mulberry32). */
export class Luck {
    constructor(private seed: number) {}

    /** At least 0, below 1. */
    next(): number {
        this.seed = (this.seed + 0x6d2b79f5) | 0;
        let t = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }

    between(low: number, high: number): number {
        return low + (high - low) * this.next();
    }

    /** An integer, `high` not included. */
    below(high: number): number {
        return Math.floor(this.next() * high);
    }

    pick<T>(items: readonly T[]): T {
        const item = items[this.below(items.length)];
        if (item === undefined) throw new Error("nothing to pick from");
        return item;
    }

    /** Six digits, as both screens would show them. */
    code(): string {
        const digits = String(this.below(1_000_000)).padStart(6, "0");
        return `${digits.slice(0, 3)} ${digits.slice(3)}`;
    }
}
