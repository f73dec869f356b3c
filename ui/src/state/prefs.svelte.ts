/** How the screen looks to whoever holds it. Kept with the screen, because it is wanted before the first picture. */
import { getLocale, setLocale, type Locale } from "../paraglide/runtime.js";

export type Theme = "auto" | "light" | "dark";
export type TextSize = "small" | "normal" | "large" | "largest";

export const THEMES: readonly Theme[] = ["auto", "light", "dark"];
export const TEXT_SIZES: readonly TextSize[] = ["small", "normal", "large", "largest"];

class Prefs {
    theme = $state<Theme>(stored("theme", THEMES, "auto"));
    textSize = $state<TextSize>(stored("text-size", TEXT_SIZES, "normal"));
    locale = $state<Locale>(getLocale());

    apply(): void {
        const root = document.documentElement;
        if (this.theme === "auto") delete root.dataset["theme"];
        else root.dataset["theme"] = this.theme;
        root.dataset["text"] = this.textSize;
        root.lang = this.locale;
        root.dir = "ltr";
    }

    setTheme(theme: Theme): void {
        this.theme = theme;
        keep("theme", theme);
        this.apply();
    }

    setTextSize(size: TextSize): void {
        this.textSize = size;
        keep("text-size", size);
        this.apply();
    }

    setLocale(locale: Locale): void {
        void setLocale(locale, { reload: false });
        this.locale = locale;
        this.apply();
    }
}

function stored<T extends string>(key: string, known: readonly T[], otherwise: T): T {
    try {
        return known.find((value) => value === localStorage.getItem(`lingualinked.${key}`)) ?? otherwise;
    } catch {
        // Storage may be switched off; the screen then looks as it does at first.
        return otherwise;
    }
}

function keep(key: string, value: string): void {
    try {
        localStorage.setItem(`lingualinked.${key}`, value);
    } catch {
        // As above.
    }
}

export const prefs = new Prefs();
