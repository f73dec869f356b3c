/**
 * `licences.json`: what the screens and the app are built of, with the licences.
 *
 * Scripts are read off the bundle, so what was only needed to build is not listed. Styles do not say where they came from;
 * their packages are named here. Many packages share a text, which is kept once.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, sep } from "node:path";

import type { Plugin } from "vite";

import { crates } from "./crates.ts";

const STYLES = ["tailwindcss", "@fontsource-variable/bricolage-grotesque", "@fontsource-variable/figtree"];

export interface Licence {
    name: string;
    version: string;
    licence: string;
    text: string;
    part: "screens" | "app";
}

/** The file. `text` is a place in `texts`. */
export interface Licences {
    texts: string[];
    packages: Array<Omit<Licence, "text"> & { text: number }>;
}

export function licences(): Plugin {
    return {
        name: "licences",
        apply: "build",
        generateBundle(_, bundle) {
            const folders = new Set(STYLES.map((name) => join(process.cwd(), "node_modules", name)));
            for (const file of Object.values(bundle)) {
                if (file.type !== "chunk") continue;
                for (const id of file.moduleIds) {
                    const folder = packageOf(id);
                    if (folder !== undefined) folders.add(folder);
                }
            }
            const found = [...[...folders].map(read), ...crates()].sort((a, b) => a.name.localeCompare(b.name));
            this.emitFile({ type: "asset", fileName: "licences.json", source: JSON.stringify(shared(found)) });
        },
    };
}

function shared(found: Licence[]): Licences {
    const texts = [...new Set(found.map(({ text }) => text))];
    return { texts, packages: found.map((one) => ({ ...one, text: texts.indexOf(one.text) })) };
}

/** The folder of the package that a module belongs to; `undefined` for our own. */
function packageOf(id: string): string | undefined {
    const file = id.replace(/^\0/, "").split("?")[0] ?? "";
    if (!file.includes(`${sep}node_modules${sep}`)) return undefined;
    for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
        if (folder.endsWith(`${sep}node_modules`)) return undefined;
        // Folders inside of a package may have a nameless package.json that only says "module".
        if (existsSync(join(folder, "package.json")) && read(folder).name !== "") return folder;
    }
    return undefined;
}

function read(folder: string): Licence {
    const { name = "", version = "", license = "" } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((file) => /^(licen[cs]e|copying)(\.|-|$)/i.test(file));
    const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim();
    return { name, version, licence: license, text, part: "screens" };
}
