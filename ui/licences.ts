/**
 * `virtual:licences`: the packages that are shipped in the built screens, with their licences.
 *
 * They are the packages of `dependencies` and what these need in turn, read from `node_modules` at build time. `bits-ui` and
 * Svelte bring packages that only their own build uses; listing one too many does no harm.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Plugin } from "vite";

interface Licence {
    name: string;
    version: string;
    licence: string;
    text: string;
}

const VIRTUAL = "virtual:licences";

export function licences(): Plugin {
    return {
        name: "licences",
        resolveId: (id) => (id === VIRTUAL ? `\0${VIRTUAL}` : undefined),
        load: (id) => (id === `\0${VIRTUAL}` ? `export default ${JSON.stringify(collect(process.cwd()))};` : undefined),
    };
}

function collect(root: string): Licence[] {
    const found = new Map<string, Licence>();
    visit(root, Object.keys(readPackage(root).dependencies ?? {}), found);
    return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}

function visit(from: string, names: string[], found: Map<string, Licence>): void {
    for (const name of names) {
        if (found.has(name) || name.startsWith("@types/")) continue;
        const folder = folderOf(from, name);
        if (folder === undefined) continue;
        const { version, license, dependencies } = readPackage(folder);
        found.set(name, { name, version, licence: license ?? "", text: textOf(folder) });
        visit(folder, Object.keys(dependencies ?? {}), found);
    }
}

/** Where Node would find it: in the nearest `node_modules` upwards. */
function folderOf(from: string, name: string): string | undefined {
    for (let folder = from; ; folder = dirname(folder)) {
        const candidate = join(folder, "node_modules", name);
        if (existsSync(join(candidate, "package.json"))) return candidate;
        if (folder === dirname(folder)) return undefined;
    }
}

function readPackage(folder: string): { version: string; license?: string; dependencies?: Record<string, string> } {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

function textOf(folder: string): string {
    const file = readdirSync(folder).find((file) => /^(licen[cs]e|copying)(\.|-|$)/i.test(file));
    return file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim();
}
