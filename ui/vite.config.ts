import { paraglideVitePlugin } from "@inlang/paraglide-js";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vite";

import { CSP } from "./csp.ts";
import { licences } from "./licences.ts";

export default defineConfig({
    // Relative, so that the same files work at any address.
    base: "./",
    plugins: [
        paraglideVitePlugin({
            project: "./project.inlang",
            outdir: "./src/paraglide",
            strategy: ["localStorage", "preferredLanguage", "baseLocale"],
        }),
        svelte(),
        tailwindcss(),
        licences(),
    ],
    build: {
        // What WebViews of Android 9 are updated to, and iOS 16.4 comes with: older ones know no lookbehind, which cannot be
        // rewritten. `light-dark()` is.
        target: ["chrome111", "safari16.4"],
        // A data: URL would need an exception in the CSP.
        assetsInlineLimit: 0,
        manifest: true,
    },
    // The app's own policy, so that the browser tests live under it too.
    preview: { headers: { "Content-Security-Policy": CSP } },
});
