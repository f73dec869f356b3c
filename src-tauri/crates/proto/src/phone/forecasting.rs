//! What to expect of a model is found out, while nothing is moved and nobody who writes is disturbed.
//!
//! Who has the model finds it out, because it would be the head; another asks it:
//!
//! ```text
//!   a phone without it ── ForecastWanted ──► one that has it: as if its own person had asked, one at a time
//!                     ◄── ForecastTold ────
//! ```

use std::time::Instant;

use super::{
    ForecastId, Forecasting, ModelId, News, OutEvent, PeerId, Phone, Presence, Reply, Work, profile,
};
use crate::forecast::{ForecastError, TOLD_WITHIN};
use crate::profile::Message;
use crate::wire::Control;

/// Forecasts that one member finds out for another.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// What this phone waits for.
    by_me: Option<Waiting>,
    /// What this phone finds out, for whom, and until when it may take.
    of_me: Option<(PeerId, ModelId, Instant)>,
}

/// A forecast that another member finds out.
#[derive(Debug)]
struct Waiting {
    id: ForecastId,
    model: ModelId,
    holder: PeerId,
    give_up_at: Instant,
}

impl Asked {
    /// Returns when it is given up to be told.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.by_me.as_ref().map(|waiting| waiting.give_up_at)
    }
}

impl<H, C> Phone<H, C> {
    /// A person wants to know what to expect of a model, here or on another phone (`is_own`): a person here comes first.
    pub(super) fn forecast(&mut self, id: ForecastId, work: Work, is_own: bool, now: Instant) {
        if !is_own && self.is_finding_out_for_itself() {
            return self.tell_forecast(id, News::Failed(ForecastError::Occupied));
        }
        if is_own {
            self.supersede_asked();
        }
        self.supersede();

        self.forecasting = Some(Forecasting::new(id, self.me, work, is_own, now));
    }

    fn is_finding_out_for_itself(&self) -> bool {
        self.forecasting.as_ref().is_some_and(Forecasting::is_own)
    }

    /// One forecast at a time is found out here.
    fn supersede(&mut self) {
        if let Some(old) = self.forecasting.take() {
            self.tell_forecast(old.id(), News::Failed(ForecastError::Superseded));
            self.forecasted = Some(old);
        }
    }

    /// A person wants to know what to expect of a model that another member has.
    pub(super) fn forecast_elsewhere(&mut self, id: ForecastId, model: ModelId, now: Instant) {
        self.supersede_asked();
        if self.is_finding_out_for_itself() {
            self.supersede();
        }
        let Some(holder) = self.holder_here(model) else {
            return self.tell_forecast(id, News::Failed(ForecastError::NobodyHasIt));
        };

        self.asked.by_me = Some(Waiting {
            id,
            model,
            holder,
            give_up_at: now + TOLD_WITHIN,
        });
        self.send_control(holder, Control::ForecastWanted(model));
    }

    /// One forecast at a time is waited for.
    fn supersede_asked(&mut self) {
        if let Some(old) = self.asked.by_me.take() {
            self.tell_forecast(old.id, News::Failed(ForecastError::Superseded));
        }
    }

    /// A member wants to know what to expect of a model that this phone has.
    pub(super) fn forecast_wanted_by(&mut self, by: PeerId, model: ModelId, now: Instant) {
        let mine = self.standings.mine();
        let is_here = mine.models.iter().any(|held| held.model == model);
        let open = self.asked.of_me.filter(|(_, _, until)| now < *until);
        if open.is_some_and(|(other, of, _)| (other, of) == (by, model)) {
            return; // it has asked again: what is on its way answers both
        }
        let is_others = open.is_some_and(|(other, _, _)| other != by);
        let error = match (is_here, is_others || self.is_finding_out_for_itself()) {
            (false, _) => ForecastError::NobodyHasIt,
            (true, true) => ForecastError::Occupied,
            (true, false) => {
                self.asked.of_me = Some((by, model, now + TOLD_WITHIN));
                let wanted = OutEvent::ForecastWanted { model, by };
                return self.events.push_back(wanted);
            }
        };

        let reply = Reply::Failed(error);
        self.send_control(by, Control::ForecastTold { model, reply });
    }

    /// What a member wanted to know is found out.
    pub(super) fn forecast_told(&mut self, to: PeerId, model: ModelId, reply: Reply) {
        let asked = &mut self.asked.of_me;
        if asked
            .take_if(|(by, of, _)| *by == to && *of == model)
            .is_some()
        {
            let reply = match reply {
                // By a person here.
                Reply::Failed(ForecastError::Superseded) => Reply::Failed(ForecastError::Occupied),
                reply @ (Reply::Done(_) | Reply::Failed(_)) => reply,
            };
            self.send_control(to, Control::ForecastTold { model, reply });
        }
    }

    /// A member says what to expect of a model that it has.
    pub(super) fn hear_forecast(&mut self, from: PeerId, model: ModelId, reply: Reply) {
        let is_it = |w: &mut Waiting| w.holder == from && w.model == model;
        let Some(waiting) = self.asked.by_me.take_if(is_it) else {
            return tracing::warn!(%from, "Forecast that nobody asked for, dropped");
        };

        let news = match reply {
            Reply::Done(forecasts) => News::Told(Box::new(forecasts.bounded())),
            Reply::Failed(error) => News::Failed(error),
        };
        self.tell_forecast(waiting.id, news);
    }

    /// Whoever was asked is gone, or takes too long.
    fn give_up_being_told(&mut self, now: Instant) {
        let Some(waiting) = &self.asked.by_me else {
            return;
        };
        // One that is not heard for a moment may be measuring.
        let presence = self.group.presence(waiting.holder);
        let is_gone = matches!(presence, None | Some(Presence::Lost));
        if !is_gone && now < waiting.give_up_at {
            return;
        }

        let id = waiting.id;
        let error = match is_gone {
            true => ForecastError::NobodyHasIt,
            false => ForecastError::TimedOut,
        };
        self.asked.by_me = None;
        self.tell_forecast(id, News::Failed(error));
    }

    pub(super) fn forecast_unwanted(&mut self, id: ForecastId) {
        self.asked.by_me.take_if(|waiting| waiting.id == id);
        let is_it = |forecasting: &mut Forecasting| forecasting.id() == id;

        if let Some(forecasting) = self.forecasting.take_if(is_it) {
            self.forecasted = Some(forecasting);
        }
    }

    /// Goes on with a forecast, unless this phone is writing.
    pub(super) fn go_on_forecasting(&mut self, now: Instant) {
        self.give_up_being_told(now);
        let Some(mut forecasting) = self.forecasting.take() else {
            return;
        };
        let id = forecasting.id();
        if self.leader.is_none() {
            return self.tell_forecast(id, News::Failed(ForecastError::NoLeader));
        }

        if !self.ring.is_writing() {
            let phones = self.phones_here();
            if !forecasting.is_measuring() {
                let planned = self.planning.as_ref().map(|planning| planning.survey());
                let forecasted = self.forecasted.as_ref().map(Forecasting::survey);
                for known in planned.into_iter().chain(forecasted) {
                    forecasting.learn(known, &phones, now);
                }
            }
            forecasting.set_excluded(&self.excluded());
            forecasting.set_devices(self.standings.devices().collect());
            forecasting.measure(&phones, now);
        }
        let news = forecasting.news(self.group.roster(), now);
        if news.as_ref().is_some_and(News::is_last) {
            self.forecasted = Some(forecasting);
        } else {
            self.forecasting = Some(forecasting);
        }
        if let Some(news) = news {
            self.tell_forecast(id, news);
        }
    }

    fn tell_forecast(&mut self, id: ForecastId, news: News) {
        self.events.push_back(OutEvent::Forecast { id, news });
    }

    /// Measures this phone, if that is wanted, while nothing is being written: it would hold up every token by seconds.
    pub(super) fn measure_if_idle(&mut self) {
        if !self.ring.is_writing()
            && let Some(measure) = self.measure_later.take()
        {
            self.events.push_back(OutEvent::Measure(measure));
        }
    }

    /// Returns whether what a phone says about itself is for the forecast: both surveys of this phone may have asked it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "others are told by their number, or of use to both"
    )]
    pub(super) fn is_for_forecast(&self, from: PeerId, message: &profile::Message) -> bool {
        let survey = self.forecasting.as_ref().map(Forecasting::survey);

        survey.is_some_and(|survey| match message {
            Message::Measured { profile, .. } => profile.sample == survey.sample(),
            Message::NotMeasured { .. } => survey.waits_for(from),
            _ => true,
        })
    }

    /// Returns whether it is for the plans.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "others are told by their number, or of use to both"
    )]
    pub(super) fn is_for_planning(&self, from: PeerId, message: &profile::Message) -> bool {
        let survey = self.planning.as_ref().map(|planning| planning.survey());

        survey.is_some_and(|survey| match message {
            Message::Measured { profile, .. } => {
                profile.sample == survey.sample() || !self.is_for_forecast(from, message)
            }
            Message::NotMeasured { .. } => survey.waits_for(from),
            _ => true,
        })
    }
}
