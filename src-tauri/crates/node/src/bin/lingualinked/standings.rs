//! Making lines of how members are, of what is run, and of what to expect of a model.

use node::event_loop::ForecastNews;
use proto::PeerId;
use proto::forecast;
use proto::placement::Tiredness;
use proto::standing::{
    Board, MemberStanding, PreparationStep, Question, QuestionStage, Run, RunPhase, Speed,
};

use crate::lines::{
    ForecastLine, Line, OutlookLine, QuestionLine, ReasonLine, RunLine, StageLine, StandingLine,
    WithoutLine,
};
use crate::names::{Names, peer_text};

impl Names {
    /// Says how every member is.
    pub fn standings(&self, board: &Board) -> Vec<StandingLine> {
        let line = |(&phone, member): (&PeerId, &MemberStanding)| {
            let standing = &member.standing;
            let device = standing.device;
            let battery = device.and_then(|device| device.battery);

            StandingLine {
                phone: self.of(phone),
                peer: peer_text(phone),
                excluded: member.is_excluded,
                tired: standing.tiredness().map(|tired| tired_word(tired).into()),
                budget_bytes: device.map(|device| device.budget_bytes),
                battery_percent: battery.map(|battery| battery.percent),
                preparation: standing.preparation.map(|p| step_word(p.step).into()),
                layers_per_s: standing.layers_per_s,
                layers_computed: standing.layers_computed,
                rtt_ms: member.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            }
        };

        board.members.iter().map(line).collect()
    }

    /// Says what is run.
    pub fn run(&self, run: &Run) -> RunLine {
        let tpot_ms = |speed: Option<Speed>| speed.map(|speed| f64::from(speed.tpot_s) * 1e3);
        let question = |question: &Question| {
            let (stage, done) = match question.stage {
                QuestionStage::Waiting { ahead } => ("waiting", ahead),
                QuestionStage::Reading { done, .. } => ("reading", done),
                QuestionStage::Writing { tokens } => ("writing", tokens),
            };
            QuestionLine {
                phone: self.of(question.asker),
                stage: stage.into(),
                done,
            }
        };

        RunLine {
            model: run.name.to_string(),
            started_by: self.of(run.started_by),
            phase: match run.phase {
                RunPhase::Measuring => "measuring",
                RunPhase::Preparing { .. } => "preparing",
                RunPhase::Ready => "ready",
                RunPhase::Failed(_) => "failed",
            }
            .into(),
            forecast_tpot_ms: tpot_ms(run.forecast),
            measured_tpot_ms: tpot_ms(run.measured),
            questions: run.questions.iter().map(question).collect(),
        }
    }

    /// Says how a forecast is going.
    pub fn forecast(&self, news: ForecastNews) -> Line {
        match news {
            ForecastNews::Measuring { unknown } => Line::Measuring {
                unknown: unknown.into_iter().map(|phone| self.of(phone)).collect(),
            },
            ForecastNews::Failed(error) => Line::Error {
                id: None,
                message: format!("no forecast: {error}"),
            },
            ForecastNews::Done(forecasts) => Line::Forecast {
                group: self.outlook(&forecasts.group),
                alone: self.outlook(&forecasts.alone),
                without: forecasts
                    .without
                    .iter()
                    .map(|(phone, outlook)| WithoutLine {
                        phone: self.of(*phone),
                        peer: peer_text(*phone),
                        outlook: self.outlook(outlook),
                    })
                    .collect(),
                reasons: forecasts
                    .verdicts
                    .iter()
                    .map(|verdict| ReasonLine {
                        phone: self.of(verdict.phone),
                        peer: peer_text(verdict.phone),
                        reason: verdict.to_string(),
                    })
                    .collect(),
            },
        }
    }

    fn outlook(&self, outlook: &forecast::Outlook) -> OutlookLine {
        let none = |reason: String| OutlookLine::DoesNotRun {
            reason,
            missing_bytes: None,
        };

        match outlook {
            forecast::Outlook::Runs {
                forecast,
                stages,
                slowest,
                fetch_bytes,
            } => OutlookLine::Runs {
                forecast: ForecastLine::of(forecast),
                stages: stages
                    .iter()
                    .map(|stage| StageLine {
                        phone: self.of(stage.phone),
                        layers: [stage.layers.0, stage.layers.1],
                    })
                    .collect(),
                slowest: self.of(*slowest),
                fetch_bytes: *fetch_bytes,
            },
            forecast::Outlook::DoesNotFit(shortage) => OutlookLine::DoesNotRun {
                reason: shortage.to_string(),
                missing_bytes: Some(shortage.missing_bytes),
            },
            forecast::Outlook::CutOff => {
                none("the phones that have memory for it cannot reach each other".into())
            }
            forecast::Outlook::Unknown { phone } => {
                none(format!("it is not known what {} can do", self.of(*phone)))
            }
        }
    }
}

fn tired_word(tired: Tiredness) -> &'static str {
    match tired {
        Tiredness::LowBattery => "low_battery",
        Tiredness::Hot => "hot",
        Tiredness::NotCharging => "not_charging",
        Tiredness::Metered => "metered",
        Tiredness::Unmeasured => "unmeasured",
        Tiredness::Failed => "failed",
    }
}

fn step_word(step: PreparationStep) -> &'static str {
    match step {
        PreparationStep::Waiting => "waiting",
        PreparationStep::Fetching => "fetching",
        PreparationStep::Checking => "checking",
        PreparationStep::Loading => "loading",
        PreparationStep::Ready => "ready",
    }
}
