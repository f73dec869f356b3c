/**
 * Whether a conversation follows what is being written.
 *
 * It does while its end is in view. Scrolling up lets go; coming back to the end takes hold again. Text that grows below
 * moves the end away without anybody having scrolled, and does not let go.
 */
export class Sticky {
    /** Whether the end should be kept in view. */
    holds = true;
    private offset = 0;

    /** Pixels from the end that still count as there: less than two lines. */
    static readonly NEAR = 40;

    /** Notes where the view is: all in pixels, `offset` from the top. */
    scrolled(offset: number, viewport: number, content: number): void {
        const left = content - viewport - offset;
        if (left <= Sticky.NEAR) this.holds = true;
        else if (offset < this.offset) this.holds = false;
        this.offset = offset;
    }

    /** A person asked for another place. */
    release(): void {
        this.holds = false;
    }
}
