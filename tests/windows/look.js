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
        return best;
    },
};
return LOOKS[what](...rest);
