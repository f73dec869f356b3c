// What a person sees: elements by the names that they show, in the sheet that lies on top.
const [what, ...rest] = arguments;

const shown = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return width > 1 && height > 1 && element.checkVisibility({ visibilityProperty: true });
};
// Names of phones stand between characters that isolate their direction.
const plain = (text) => text.replace(/[⁦-⁩⁠]/g, "").replace(/\s+/g, " ").trim();
const named = (element) => {
    const label = element.id && document.querySelector(`label[for="${CSS.escape(element.id)}"]`);
    return plain(element.getAttribute("aria-label") ?? label?.innerText ?? element.innerText ?? "");
};
// A finger that aims at what moves misses it. What never rests, such as a light that breathes, moves nothing from its place.
const moves = (element) =>
    document.getAnimations().some(({ effect, playState }) => {
        const ends = Number.isFinite(effect?.getComputedTiming().endTime);
        return playState === "running" && ends && effect.target?.contains(element);
    });
const sheets = [...document.querySelectorAll("[role=dialog]")].filter(shown);
const top = sheets.at(-1) ?? document.body;
const all = (selector) => [...top.querySelectorAll(selector)].filter(shown);

const LOOKS = {
    text: () => plain(top.innerText),
    texts: (selector) => all(selector).map((element) => element.innerText.trim()),
    find: (selector, name) => {
        const found = all(selector).filter((element) => !element.disabled && named(element).includes(name));
        const best = found.find((element) => named(element) === name) ?? found[0] ?? null;
        best?.scrollIntoView({ block: "nearest" });
        return best && moves(best) ? null : best;
    },
};
return LOOKS[what](...rest);
