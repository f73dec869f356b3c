/** What happened, and why something cannot be done, in whole sentences. */
import type { Fit } from "../bindings/Fit";
import type { Heat } from "../bindings/Heat";
import type { Help } from "../bindings/Help";
import type { Model } from "../bindings/Model";
import type { Notice } from "../bindings/Notice";
import type { PairingEnd } from "../bindings/PairingEnd";
import type { Problem } from "../bindings/Problem";
import type { RebalanceReason } from "../bindings/RebalanceReason";
import type { ServerFault } from "../bindings/ServerFault";
import type { Tiredness } from "../bindings/Tiredness";
import type { VerdictReason } from "../bindings/VerdictReason";
import type { VersionMatch } from "../bindings/VersionMatch";
import { m } from "../paraglide/messages.js";
import { bytes, count, milliseconds } from "./format";
import { cleanName, cleanProse, isolate, truncate } from "./plain";

/** Letters of a detail that the phone reports. */
const DETAIL_LETTERS_MAX = 300;

/** A stranger's name inside a sentence. */
export function named(name: string): string {
    return isolate(cleanName(name) || m.unnamed_phone());
}

export function notice(what: Notice): string {
    switch (what.kind) {
        case "phone_joined":
            return m.notice_phone_joined({ name: named(what.name), count: what.phones });
        case "phone_left":
            return what.phones > 1
                ? m.notice_phone_left({ name: named(what.name), count: what.phones })
                : m.notice_phone_left_alone({ name: named(what.name) });
        case "phone_lost":
            return what.phones > 1
                ? m.notice_phone_lost({ name: named(what.name), count: what.phones })
                : m.notice_phone_lost_alone({ name: named(what.name) });
        case "removed":
            return m.notice_removed({ name: named(what.name) });
        case "you_were_removed":
            return m.notice_you_were_removed();
        case "leader_changed":
            return m.notice_leader_changed({ name: named(what.name) });
        case "rebalanced":
            return rebalanced(what.reason, named(what.name));
        case "continuing":
            return m.notice_continuing({ count: what.phones });
        case "continuing_alone":
            return m.notice_continuing_alone();
        case "too_small":
            return m.notice_too_small({ missing: bytes(what.missing_bytes) });
        case "model_ready":
            return what.phones > 1
                ? m.notice_model_ready({ model: named(what.model), count: what.phones })
                : m.notice_model_ready_alone({ model: named(what.model) });
        case "pairing_ended":
            return pairingEnd(what.end, what.name);
        case "start_failed":
            return m.notice_start_failed({ model: named(what.model), why: problem(what.problem) });
        case "history_set_aside":
            return m.notice_history_set_aside({ path: isolate(truncate(cleanProse(what.path), DETAIL_LETTERS_MAX)) });
        case "download_done":
            return m.notice_download_done({ model: named(what.model) });
        case "file_saved":
            return m.notice_file_saved({ path: isolate(truncate(cleanProse(what.path), 120)) });
    }
}

function rebalanced(reason: RebalanceReason, name: string): string {
    switch (reason) {
        case "slow":
            return m.notice_rebalanced_slow({ name });
        case "hot":
            return m.notice_rebalanced_hot({ name });
        case "low_battery":
            return m.notice_rebalanced_battery({ name });
        case "low_memory":
            return m.notice_rebalanced_memory({ name });
        case "newcomer":
            return m.notice_rebalanced_newcomer({ name });
        case "left_out":
            return m.notice_rebalanced_left_out({ name });
    }
}

export function pairingEnd(end: PairingEnd, rawName: string): string {
    const name = named(rawName);
    switch (end) {
        case "declined":
            return m.pairing_declined({ name });
        case "cancelled":
            return m.pairing_cancelled({ name });
        case "busy":
            return m.pairing_busy({ name });
        case "expired":
            return m.pairing_expired({ name });
        case "bad_code":
            return m.pairing_bad_code({ name });
        case "invite_unknown":
        case "wrong_host":
            return m.pairing_invite_unknown();
        case "invite_expired":
            return m.pairing_invite_expired();
        case "invite_used":
            return m.pairing_invite_used();
        case "full":
            return m.pairing_full();
        case "blocked":
            return m.pairing_blocked({ name });
        case "other_version":
            return m.pairing_other_version({ name });
        case "unreachable":
            return m.pairing_unreachable({ name });
    }
}

export function problem(what: Problem): string {
    switch (what.kind) {
        case "no_wifi":
            return m.problem_no_wifi();
        case "isolated":
            return m.problem_isolated();
        case "no_permission":
            if (what.permission === "camera") return m.problem_no_camera();
            return what.permission === "local_network" ? m.problem_no_local_network() : m.problem_no_permission();
        case "not_leader":
            return m.problem_not_leader();
        case "not_a_link":
            return m.problem_not_a_link();
        case "mistyped":
            return m.problem_mistyped();
        case "other_version":
            return version(what.version);
        case "invite_expired":
            return m.pairing_invite_expired();
        case "unreachable":
            return m.problem_unreachable();
        case "memory_short":
            return m.problem_memory_short({ missing: bytes(what.missing_bytes) });
        case "storage_short":
            return m.problem_storage_short({ missing: bytes(what.missing_bytes) });
        case "unsupported":
            return m.problem_unsupported({ architecture: named(what.architecture) });
        case "damaged":
            return m.problem_damaged();
        case "server":
            return serverFault(what.fault, named(what.host));
        case "file_gone":
            return m.problem_file_gone({ name: named(what.name) });
        case "file_changed":
            return m.problem_file_changed({ name: named(what.name) });
        case "metered":
            return m.problem_metered();
        case "no_model":
            return m.problem_no_model();
        case "phones_gone":
            return m.problem_phones_gone({ count: what.phones });
        case "cannot_load":
            return m.problem_cannot_load();
        case "no_plan":
            return m.problem_no_plan();
        case "other_model":
            return m.problem_other_model();
        case "unfit":
            return m.problem_unfit({ detail: isolate(truncate(cleanProse(what.detail), DETAIL_LETTERS_MAX)) });
        case "not_a_file":
            return m.problem_not_a_file();
        case "starts_again":
            return m.problem_starts_again();
        case "context_full":
            return m.problem_context_full();
        case "busy":
            return m.problem_busy();
        case "other":
            return m.problem_other({ detail: isolate(truncate(cleanProse(what.detail), DETAIL_LETTERS_MAX)) });
    }
}

function serverFault(what: ServerFault, host: string): string {
    switch (what.kind) {
        case "unreachable":
            return m.problem_server_unreachable({ host });
        case "breaks_off":
            return m.problem_server_breaks_off({ host });
        case "starts_over":
            return m.problem_server_starts_over({ host });
        case "refuses":
            return m.problem_server_refuses({ host, status: what.status });
        case "fails":
            return m.problem_server_fails({ host, status: what.status });
        case "wrong_length":
            return m.problem_server_wrong_length({ host });
        case "wrong_hash":
            return m.problem_server_wrong_hash({ host });
        case "insecure":
            return m.problem_server_insecure({ host });
    }
}

export function version(match: VersionMatch): string {
    switch (match) {
        case "same":
            return "";
        case "theirs_older":
            return m.version_theirs_older();
        case "ours_older":
            return m.version_ours_older();
    }
}

export function fit(what: Fit): string {
    switch (what.kind) {
        case "fits":
            return m.fit_fits();
        case "tight":
            return m.fit_tight();
        case "too_big":
            return m.fit_too_big({ missing: bytes(what.missing_bytes) });
        case "unsupported":
            return m.fit_unsupported();
    }
}

/** `nameOf` returns a name that is safe to show. */
export function help(what: Help, nameOf: (phone: string) => string): string {
    switch (what.kind) {
        case "free_memory":
            return m.help_free_memory({ name: isolate(nameOf(what.phone)), bytes: bytes(what.bytes) });
        case "another_phone":
            return m.help_another_phone({ bytes: bytes(what.bytes) });
        case "bring_back":
            return m.help_bring_back({ name: isolate(nameOf(what.phone)) });
        case "shorter_context":
            return m.help_shorter_context({ tokens: count(what.tokens) });
        case "smaller_model":
            return m.help_smaller_model({ bytes: bytes(what.bytes) });
    }
}

/** What taking a model away from this phone is called. */
export function removal({ name: raw, imported, availability }: Model): string {
    const name = isolate(cleanName(raw, 48));
    if (imported) return m.model_remove({ name });
    return availability.kind === "here" ? m.model_delete({ name }) : m.model_discard({ name });
}

export function verdict(what: VerdictReason): string {
    switch (what.kind) {
        case "runs":
            return m.verdict_runs({ ms: milliseconds(what.ms_per_token) });
        case "would_add":
            return m.verdict_would_add({ ms: milliseconds(what.ms_per_token) });
        case "not_needed":
            return m.verdict_not_needed();
        case "no_memory":
            return m.verdict_no_memory({ missing: bytes(what.missing_bytes) });
        case "unreachable":
            return m.verdict_unreachable();
        case "excluded":
            return m.member_excluded();
        case "tired":
            return tired(what.why);
    }
}

export function tired(why: Tiredness): string {
    switch (why) {
        case "low_battery":
            return m.tired_low_battery();
        case "hot":
            return m.tired_hot();
        case "not_charging":
            return m.tired_not_charging();
        case "metered":
            return m.tired_metered();
        case "failed":
            return m.tired_failed();
    }
}

export function heat(how: Heat): string {
    switch (how) {
        case "cool":
            return m.heat_cool();
        case "warm":
            return m.heat_warm();
        case "hot":
            return m.heat_hot();
    }
}

/** Layers as people count them, from 1 and both ends included. The first phone may have none. */
export function layerRange([from, to]: [number, number]): string {
    return from < to ? m.ring_layers({ from: from + 1, to }) : m.ring_no_layers();
}
