//! What to expect of a model, as screens have it.

use proto::forecast::{self, StageOutlook};
use proto::placement::{self, Forecast, Reason, Tiredness as Rest};

use super::ids::phone_id;
use super::running::tiredness;
use crate::api::{
    Forecasts, Help, Outlook, OutlookWithout, PhoneId, Speed, Stage, Verdict, VerdictReason,
};

/// Returns what to expect.
pub fn forecasts_of(known: &forecast::Forecasts) -> Forecasts {
    let without = known.without.iter().map(|(phone, outlook)| OutlookWithout {
        phone: phone_id(*phone),
        outlook: outlook_of(outlook),
    });
    let verdicts = known.verdicts.iter().map(|verdict| Verdict {
        phone: phone_id(verdict.phone),
        reason: reason_of(&verdict.reason),
    });

    Forecasts {
        group: outlook_of(&known.group),
        alone: outlook_of(&known.alone),
        without: without.collect(),
        verdicts: verdicts.collect(),
    }
}

fn outlook_of(outlook: &forecast::Outlook) -> Outlook {
    match outlook {
        forecast::Outlook::Runs {
            forecast,
            stages,
            slowest,
            fetch_bytes,
        } => Outlook::Runs {
            speed: speed_of(forecast),
            stages: stages.iter().map(stage_of).collect(),
            slowest: phone_id(*slowest),
            fetch_bytes: *fetch_bytes,
        },
        forecast::Outlook::DoesNotFit(shortage) => Outlook::DoesNotFit {
            missing_bytes: shortage.missing_bytes,
            helps: shortage.helps.iter().filter_map(help_of).collect(),
        },
        forecast::Outlook::CutOff => Outlook::DoesNotFit {
            missing_bytes: 0,
            helps: Vec::new(),
        },
        forecast::Outlook::Unknown { phone } => Outlook::Unknown {
            phone: phone_id(*phone),
        },
    }
}

fn stage_of(stage: &StageOutlook) -> Stage {
    Stage {
        phone: phone_id(stage.phone),
        layers: [stage.layers.0, stage.layers.1],
        ms_per_token: Some(stage.ms_per_token),
    }
}

fn speed_of(forecast: &Forecast) -> Speed {
    Speed {
        ttft_s: forecast.ttft_s,
        tokens_per_s: forecast.tokens_per_s(),
    }
}

/// Returns what would help; `None` for what no person can do anything about.
fn help_of(help: &placement::Help) -> Option<Help> {
    Some(match help {
        placement::Help::FreeMemory { phone, bytes, .. } => Help::FreeMemory {
            phone: phone_id(*phone),
            bytes: *bytes,
        },
        placement::Help::AnotherPhone { bytes } => Help::AnotherPhone { bytes: *bytes },
        placement::Help::BringBack { phone, .. } => Help::BringBack {
            phone: phone_id(*phone),
        },
        placement::Help::ShorterContext { tokens } => Help::ShorterContext { tokens: *tokens },
        placement::Help::SmallerModel { bytes } => Help::SmallerModel { bytes: *bytes },
        placement::Help::WithoutRepacking => return None,
    })
}

fn reason_of(reason: &Reason) -> VerdictReason {
    match reason {
        Reason::Runs { ms_per_token, .. } => VerdictReason::Runs {
            ms_per_token: *ms_per_token,
        },
        Reason::WouldAdd { ms_per_token } | Reason::WouldHoldUp { ms_per_token } => {
            VerdictReason::WouldAdd {
                ms_per_token: *ms_per_token,
            }
        }
        Reason::NotNeeded | Reason::FitsNowhere | Reason::NotConsidered => VerdictReason::NotNeeded,
        Reason::NoMemory { missing_bytes } => VerdictReason::NoMemory {
            missing_bytes: *missing_bytes,
        },
        Reason::Unreachable | Reason::Tired(Rest::Unmeasured) => VerdictReason::Unreachable,
        Reason::Excluded => VerdictReason::Excluded,
        Reason::Tired(rest) => match tiredness(*rest) {
            Some(why) => VerdictReason::Tired { why },
            None => VerdictReason::Unreachable,
        },
    }
}

/// Returns the forecast of a model that only this phone is known to be too small for, or not.
pub fn unknown(phone: PhoneId) -> Forecasts {
    let unknown = Outlook::Unknown { phone };

    Forecasts {
        group: unknown.clone(),
        alone: unknown,
        without: Vec::new(),
        verdicts: Vec::new(),
    }
}
