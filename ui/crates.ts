/** The crates that are linked into the app on any of its systems, and what they bring along, with their licences. */
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Licence } from "./licences.ts";

const PLATFORMS = ["x86_64-unknown-linux-gnu", "aarch64-linux-android", "aarch64-apple-ios"];

/** The MIT licence below its copyright notice, for packages that name the licence and leave the text out. */
const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** Libraries in other languages, in the packages of the crates that build them: where their words lie, or what they are. */
const BROUGHT: ReadonlyArray<{ by: string; name: string; licence: string; file?: string; text?: string }> = [
    { by: "llama-cpp-sys-2", name: "llama.cpp and ggml", licence: "MIT", file: "llama.cpp/LICENSE" },
    { by: "llama-cpp-sys-2", name: "cpp-httplib", licence: "MIT", file: "llama.cpp/vendor/cpp-httplib/LICENSE" },
    { by: "llama-cpp-sys-2", name: "JSON for Modern C++", licence: "MIT", text: mit("2013 - 2025 Niels Lohmann") },
    { by: "libsqlite3-sys", name: "SQLite", licence: "Public domain" },
];

/** What `cargo metadata` says, as far as it is read here. */
interface Metadata {
    packages: Package[];
    resolve: { nodes: Array<{ id: string; deps: Array<{ pkg: string; dep_kinds: Array<{ kind: string | null }> }> }> };
}

interface Package {
    id: string;
    name: string;
    version: string;
    license: string | null;
    authors: string[];
    repository: string | null;
    /** Null of our own. */
    source: string | null;
    manifest_path: string;
    targets: Array<{ kind: string[] }>;
}

export function crates(): Licence[] {
    const linked = linkedInto("app", metadata());
    const known = linked.map((crate): [Package, string] => [crate, ownText(crate)]);
    const brought = BROUGHT.flatMap(({ by, name, licence, file, text = "" }): Licence[] => {
        const crate = linked.find((crate) => crate.name === by);
        if (crate === undefined) return [];
        return [{ name, version: "", licence, text: file === undefined ? text : readText(join(folderOf(crate), file)), part: "app" }];
    });
    const std: Licence = { name: "Rust’s standard library", version: "", licence: "MIT OR Apache-2.0", text: mit("The Rust Project contributors"), part: "app" };
    return [std, ...brought, ...known.map(([crate, text]): Licence => ({
        name: crate.name,
        version: crate.version,
        licence: crate.license ?? "",
        text: text || generalText(crate, known),
        part: "app",
    }))];
}

/** Fetches what is not there yet: the app is built of it. */
function metadata(): Metadata {
    const platforms = PLATFORMS.flatMap((platform) => ["--filter-platform", platform]);
    const said = execFileSync("cargo", ["metadata", "--locked", "--format-version", "1", ...platforms], {
        cwd: join(process.cwd(), ".."), encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"],
    });
    return JSON.parse(said) as Metadata;
}

/** Crates of others that end up in the program: not those that only build or test it, nor macros, which only write code. */
function linkedInto(root: string, { packages, resolve }: Metadata): Package[] {
    const byId = new Map(packages.map((crate) => [crate.id, crate]));
    const deps = new Map(resolve.nodes.map(({ id, deps }) => [id, deps]));
    const found = new Set<Package>();
    const visit = (id: string) => {
        const crate = byId.get(id);
        if (crate === undefined || found.has(crate) || crate.targets.some(({ kind }) => kind.includes("proc-macro"))) return;
        found.add(crate);
        for (const { pkg, dep_kinds } of deps.get(id) ?? []) {
            if (dep_kinds.some(({ kind }) => kind === null)) visit(pkg);
        }
    };
    for (const { id, name, source } of packages) if (name === root && source === null) visit(id);
    return [...found].filter(({ source }) => source !== null);
}

/** What the package itself says; of several licences to choose from, MIT. */
function ownText(crate: Package): string {
    const folder = folderOf(crate);
    const files = readdirSync(folder).filter(
        (file) => /^(licen[cs]e|copying|copyright|notice|unlicense)/i.test(file) && statSync(join(folder, file)).isFile(),
    );
    const mit = mayBeMit(crate) ? files.filter((file) => /mit/i.test(file)) : [];
    return (mit.length > 0 ? mit : files.sort()).map((file) => readText(join(folder, file))).join("\n\n");
}

/** The licence's own words, where the package leaves them out. */
function generalText(crate: Package, known: Array<[Package, string]>): string {
    if (crate.license === "MIT" || mayBeMit(crate)) return mit(crate.authors.join(", ") || `the authors of ${crate.name}`);
    const [, text] = known.find(([other, text]) => other.license === crate.license && text !== "") ?? [];
    return text ?? [crate.license, ...crate.authors, crate.repository].filter(Boolean).join("\n");
}

function mayBeMit({ license }: Package): boolean {
    return license !== null && !license.includes("AND") && license.split(/\s+OR\s+|\s*\/\s*/).includes("MIT");
}

function mit(holder: string): string {
    return `Copyright (c) ${holder}\n\n${MIT}`;
}

function folderOf({ manifest_path }: Package): string {
    return dirname(manifest_path);
}

function readText(path: string): string {
    return readFileSync(path, "utf8").replaceAll("\r\n", "\n").trim();
}
