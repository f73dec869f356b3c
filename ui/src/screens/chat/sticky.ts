/**
 * Whether a conversation follows what is being written.
 *
 * It does while its end is in view. A person who scrolls up lets go; coming back to the end takes hold again. The view also
 * moves by itself, when text grows or messages above turn out larger than was thought: that lets go of nothing.
 */
export class Sticky {
    /** Whether the end should be kept in view. */
    holds = true;
    private offset = 0;
    private touched = -Infinity;

    /** Pixels from the end that still count as there: less than two lines. */
    static readonly NEAR = 40;

    /** How long after a wheel, finger or key a scroll is taken for its effect; a flick begins at once. */
    static readonly TOUCH_MS = 400;

    /** A person used a wheel, a finger or a key. */
    touch(now: number): void {
        this.touched = now;
    }

    /** Notes where the view is: all in pixels, `offset` from the top. */
    scrolled(offset: number, viewport: number, content: number, now: number): void {
        if (content - viewport - offset <= Sticky.NEAR) this.holds = true;
        else if (offset < this.offset && now - this.touched < Sticky.TOUCH_MS) this.holds = false;
        this.offset = offset;
    }

    /** A person asked for another place. */
    release(): void {
        this.holds = false;
    }
}
