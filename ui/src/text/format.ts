/** Numbers as people read them, in the language of the screen. */
import { getLocale } from "../paraglide/runtime.js";

const kept = new Map<string, Intl.NumberFormat>();

function number(options: Intl.NumberFormatOptions): Intl.NumberFormat {
    const locale = getLocale();
    const key = locale + JSON.stringify(options);
    let format = kept.get(key);
    if (format === undefined) kept.set(key, (format = new Intl.NumberFormat(locale, options)));
    return format;
}

/** One figure behind the point where there is one before it, none for more. */
function short(value: number): string {
    return number({ maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}

/** `2.1 GB`. Powers of ten, as shops and systems' settings count. Never finer than a megabyte. */
export function bytes(count: number): string {
    if (!Number.isFinite(count)) return "–";
    const rounded = Math.max(0, count);
    if (rounded >= 9.995e8) return `${short(rounded / 1e9)} GB`;
    if (rounded >= 1e6) return `${short(Math.round(rounded / 1e6))} MB`;
    return rounded === 0 ? "0 MB" : "< 1 MB";
}

/** `7 kB`, for what a token costs on the way. */
export function smallBytes(count: number): string {
    if (count >= 1e6) return bytes(count);
    return count >= 1e3 ? `${short(count / 1e3)} kB` : `${short(count)} B`;
}

export function rate(bytesPerSecond: number): string {
    return `${bytes(bytesPerSecond)}/s`;
}

/** `7.0` tokens a second, `14` tokens a second. */
export function speed(tokensPerSecond: number): string {
    return number({ minimumFractionDigits: tokensPerSecond < 9.95 ? 1 : 0, maximumFractionDigits: tokensPerSecond < 9.95 ? 1 : 0 }).format(tokensPerSecond);
}

/** `0.7 s`, `12 s`, `3 min`, `1 h 20 min`. */
export function seconds(s: number): string {
    if (!Number.isFinite(s)) return "–";
    if (s < 60) return `${short(Math.max(s, 0))} s`;
    const minutes = Math.round(s / 60);
    if (minutes < 60) return `${number({}).format(minutes)} min`;
    const hours = Math.floor(minutes / 60);
    return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}

export function milliseconds(ms: number): string {
    return ms >= 1000 ? seconds(ms / 1000) : `${short(ms)} ms`;
}

/** `0.42` as `42 %`, spaced as the language does. */
export function percent(share: number): string {
    return number({ style: "percent", maximumFractionDigits: 0 }).format(share);
}

/** `+8 %`, `−3 %`. */
export function difference(share: number): string {
    return number({ style: "percent", maximumFractionDigits: 0, signDisplay: "exceptZero" }).format(share);
}

/** `3.2 B`: billions of parameters, or millions. */
export function parameters(count: number): string {
    return count >= 1e9
        ? `${number({ maximumFractionDigits: 1 }).format(count / 1e9)} B`
        : `${number({ maximumFractionDigits: 0 }).format(count / 1e6)} M`;
}

export function count(value: number): string {
    return number({ maximumFractionDigits: 0 }).format(value);
}

/** The time of today, the weekday of this week, else the date. */
export function moment(unixMs: number, nowMs: number): string {
    const locale = getLocale();
    const then = new Date(unixMs);
    const days = (new Date(nowMs).setHours(0, 0, 0, 0) - new Date(unixMs).setHours(0, 0, 0, 0)) / 86_400_000;
    if (days < 1) return then.toLocaleTimeString(locale, { hour: "numeric", minute: "2-digit" });
    if (days < 7) return then.toLocaleDateString(locale, { weekday: "short" });
    return then.toLocaleDateString(locale, { day: "numeric", month: "short" });
}
