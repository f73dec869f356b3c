/**
 * The Content-Security-Policy under which the screens work; `src-tauri` is to set the same.
 *
 * No inline script, no eval, nothing from elsewhere. Tauri adds its own `connect-src` (`ipc:` and `http://ipc.localhost`).
 */
export const CSP = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "font-src 'self'",
    "img-src 'self'",
    "connect-src 'self' ipc: http://ipc.localhost",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
].join("; ");
