//! What people are told, in words.
//!
//! Nothing here is fit for a terminal yet: names and reasons come from other phones. [`crate::terminal`] sees to that.

use crate::lines::{Line, MemberLine, NearbyLine, OutlookLine, ReasonLine, StageLine, WithoutLine};

impl Line {
    /// Returns what a person is told; nothing about progress, nor about an answer's words.
    pub fn for_people(&self) -> Option<String> {
        Some(match self {
            Self::Listening { address, local } => format!("listening on {address}\nand on {local}"),
            Self::Match { phone, code, .. } => {
                format!("{phone} shows {code}? Say yes if it does, or no")
            }
            Self::PairingEnded { phone, end, .. } if end == "done" => {
                format!("in one group with {phone}")
            }
            Self::PairingEnded { phone, end, .. } => {
                format!("not in one group with {phone}: {}", why_not(end))
            }
            Self::Members { members } => format!("in the group: {}", list(members)),
            Self::Leader {
                phone: Some(phone), ..
            } => format!("{phone} leads"),
            Self::Leader { phone: None, .. } => "a leader is sought".into(),
            Self::Left { reason } => format!("in no group any more: {reason}"),
            Self::Invite { link, code, .. } => {
                let code = code
                    .as_ref()
                    .map(|code| format!("\nor, typed by hand: {code}"));
                format!(
                    "for ten minutes this link lets one phone in:\n{link}{}",
                    code.unwrap_or_default()
                )
            }
            Self::NotReached { address, reason } => format!(
                "no phone is at {address}: {reason}\nIs it on the same network, and the code less than ten minutes old?"
            ),
            Self::Nearby(phone) => return nearby(phone),
            Self::Waiting { phone, reason, .. } => {
                format!("{phone} agrees, and lets this phone in {}", when(reason))
            }
            Self::Admitting { phone, reason, .. } => {
                format!("{phone} agrees, and is let in {}", when(reason))
            }
            Self::Present {
                phone, presence, ..
            } => match presence.as_str() {
                "lost" => format!("{phone} does not answer any more"),
                "here" => format!("{phone} answers again"),
                _ => return None,
            },
            Self::Leaving { phone, .. } => {
                format!("{phone} leaves when the answer is written")
            }
            Self::OtherVersion { phone, older, .. } => {
                let older = if older == "this" { "this phone" } else { phone };
                format!("{phone} speaks another version: update {older}")
            }
            Self::Unreachable { phone, reason, .. } => {
                format!("{phone} cannot be reached: {reason}")
            }
            Self::Plan { stages, .. } => {
                let stages = stages.iter().map(stage).collect::<Vec<_>>();
                format!("the model runs on {}", stages.join(", "))
            }
            Self::Stopped => "no model is run any more".into(),
            Self::Measuring { unknown } if unknown.is_empty() => return None,
            Self::Measuring { unknown } => format!("measuring {}", unknown.join(", ")),
            Self::Forecast {
                group,
                alone,
                without,
                reasons,
            } => forecast(group, alone, without, reasons),
            Self::Status {
                phone,
                address,
                members,
                nearby,
                plan,
                measured,
                ..
            } => {
                let status = status(phone, address, members, nearby, plan.as_deref());
                let measured = measured.as_deref().and_then(Line::beside_forecast);
                let lines = std::iter::once(status).chain(measured);
                lines.collect::<Vec<_>>().join("\n")
            }
            Self::Error { message, .. } => format!("lingualinked: {message}"),
            _ => return None,
        })
    }

    /// Returns what a person is told of an answer beside its forecast, when they ask how things stand.
    pub fn beside_forecast(&self) -> Option<String> {
        let Self::Measured {
            ttft_ms,
            tpot_ms,
            ttft_error,
            tpot_error,
            ..
        } = self
        else {
            return None;
        };

        Some(format!(
            "last answer: first word after {ttft_ms:.0} ms ({:+.0} % of the forecast), {tpot_ms:.1} ms a token ({:+.0} %)",
            ttft_error * 100.0,
            tpot_error * 100.0
        ))
    }
}

/// Says how things stand.
fn status(
    phone: &str,
    address: &str,
    members: &[MemberLine],
    nearby: &[NearbyLine],
    plan: Option<&Line>,
) -> String {
    let group = if members.is_empty() {
        "in no group".into()
    } else {
        format!("in the group: {}", list(members))
    };
    let names = nearby.iter().map(|near| near.phone.as_str());
    let nearby = match nearby {
        [] => "nobody".into(),
        _ => names.collect::<Vec<_>>().join(", "),
    };
    let plan = plan.and_then(Line::for_people);
    let plan = plan.unwrap_or_else(|| "no model is run".into());

    format!("{phone}, {address}\n{group}\nnearby: {nearby}\n{plan}")
}

/// Says what to expect of a model.
fn forecast(
    group: &OutlookLine,
    alone: &OutlookLine,
    without: &[WithoutLine],
    reasons: &[ReasonLine],
) -> String {
    let without = without
        .iter()
        .map(|w| (format!("without {}", w.phone), &w.outlook));
    let outlooks = [
        ("the phones that are here".into(), group),
        ("this phone alone".into(), alone),
    ];
    let outlooks = outlooks.into_iter().chain(without);
    let outlooks = outlooks.map(|(who, outlook)| format!("{who}: {}", expected(outlook)));
    let reasons = reasons.iter().map(|reason| reason.reason.clone());

    outlooks.chain(reasons).collect::<Vec<_>>().join("\n")
}

fn expected(outlook: &OutlookLine) -> String {
    match outlook {
        OutlookLine::Runs {
            forecast, stages, ..
        } => {
            let stages = stages.iter().map(stage).collect::<Vec<_>>().join(", ");
            let (tokens_per_s, ttft_s) = (1e3 / forecast.tpot_ms, forecast.ttft_ms / 1e3);
            format!(
                "{tokens_per_s:.1} tokens a second, first word after {ttft_s:.1} s, on {stages}"
            )
        }
        OutlookLine::DoesNotRun { reason, .. } => format!("cannot run it: {reason}"),
    }
}

/// Says that a phone is near.
fn nearby(phone: &NearbyLine) -> Option<String> {
    let group = match phone.group {
        Some(_) => ", in a group",
        None => "",
    };

    Some(format!("{} is near{group}", phone.phone))
}

/// Says who is in the group, who leads it, and who does not answer.
pub fn list(members: &[MemberLine]) -> String {
    let names = members.iter().map(|member| {
        let leads = if member.leader { " (leads)" } else { "" };
        let lost = if member.presence == "lost" {
            " (does not answer)"
        } else {
            ""
        };
        format!("{}{leads}{lost}", member.phone)
    });

    names.collect::<Vec<_>>().join(", ")
}

fn stage(stage: &StageLine) -> String {
    let [start, end] = stage.layers;

    format!(
        "{} (layers {start} to {})",
        stage.phone,
        end.saturating_sub(1)
    )
}

fn when(reason: &str) -> &'static str {
    match reason {
        "answer_being_written" => "when the answer is written that is being written",
        "no_leader" => "when the group has a leader again",
        _ => "when the phone that leads has heard of it",
    }
}

/// Says why two phones are not in one group, and what can be done.
fn why_not(end: &str) -> &str {
    match end {
        "declined" => "they said no",
        "cancelled" => "one of you changed their mind, or is in another group meanwhile",
        "expired" => "nobody answered in time: try again, with both people looking",
        "busy" => "too many phones ask it at once: try again in a minute",
        "full" => "the group has no seat left",
        "blocked" => "the phone that leads has blocked it",
        "bad_code" => "it broke its word about the code: do not try again",
        "other_version" => "the two apps are of different versions: update the older",
        "wrong_host" => "another phone is at that address: ask for a new invite",
        "invite_unknown" => "it does not know that invite: ask for a new one",
        "invite_expired" => "the invite is too old: ask for a new one",
        "invite_used" => "the invite has been used: ask for a new one",
        other => other,
    }
}
