//! What to expect of a model is found out, while nothing is moved and nobody who writes is disturbed.

use std::time::Instant;

use super::{ForecastId, Forecasting, News, OutEvent, PeerId, Phone, Work, profile};
use crate::forecast::ForecastError;
use crate::profile::Message;

impl<H, C> Phone<H, C> {
    /// A person wants to know what to expect of a model.
    pub(super) fn forecast(&mut self, id: ForecastId, work: Work, now: Instant) {
        if let Some(old) = self.forecasting.take() {
            self.tell_forecast(old.id(), News::Failed(ForecastError::Superseded));
            self.forecasted = Some(old);
        }

        self.forecasting = Some(Forecasting::new(id, self.me, work, now));
    }

    pub(super) fn forecast_unwanted(&mut self, id: ForecastId) {
        let is_it = |forecasting: &mut Forecasting| forecasting.id() == id;

        if let Some(forecasting) = self.forecasting.take_if(is_it) {
            self.forecasted = Some(forecasting);
        }
    }

    /// Goes on with a forecast, unless this phone is writing.
    pub(super) fn go_on_forecasting(&mut self, now: Instant) {
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
