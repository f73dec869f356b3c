/**
 * Room for the keyboard on iOS, which lays it over the page.
 *
 * Android makes the page smaller (`interactive-widget` in `index.html`), or its shell sets `--native-keyboard`;
 * `visualViewport` is not to be relied on there.
 */
export function watchKeyboard(): void {
    const view = window.visualViewport;
    // Only WebKit on iOS knows this property.
    if (view === null || !CSS.supports("-webkit-touch-callout", "none")) return;
    const measure = () => {
        const hidden_px = Math.max(0, window.innerHeight - view.height - view.offsetTop);
        document.documentElement.style.setProperty("--native-keyboard", `${Math.round(hidden_px)}px`);
    };
    view.addEventListener("resize", measure);
    view.addEventListener("scroll", measure);
}
