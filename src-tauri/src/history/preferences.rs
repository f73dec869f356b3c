//! What a person decided about this phone, and the models that they brought.

use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::HistoryError;
use super::archive::Archive;
use super::conversations::{from_sql, to_sql};
use super::limits::{Limited, MODELS_MAX};
use crate::api::{ModelId, Settings};

/// A model that a person brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownModel {
    /// Its name.
    pub id: ModelId,
    /// Where its file lies.
    pub place: Place,
    /// What people call its file.
    pub file_name: String,
    /// Its bytes when it was brought.
    pub file_bytes: u64,
    /// When it was changed last, in milliseconds since 1970; 0 if the system does not say.
    pub modified_ms: u64,
    /// Its hash; `None` until it was read once.
    pub sha256: Option<String>,
}

/// Where a model that was brought lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a path; what lies in the folder of models is kept without it, for on iOS that is elsewhere after an update.
    Path(PathBuf),
    /// Behind an address that the system opens: on Android, a `content://` one.
    Address(String),
}

const NAME: &str = "name";
const WELCOMED: &str = "welcomed";
const SETTINGS: &str = "settings";

impl Archive {
    /// Returns this phone's name; empty before a person chose one.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn name(&self) -> Result<String, HistoryError> {
        Ok(self.preference(NAME)?.unwrap_or_default())
    }

    /// Names this phone.
    ///
    /// # Errors
    ///
    /// [`HistoryError::TooLong`] for more than 256 bytes.
    pub fn set_name(&mut self, name: &str) -> Result<(), HistoryError> {
        Limited::Name.check(name)?;
        self.prefer(NAME, &name)
    }

    /// Returns whether the welcome screen has been gone through.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn welcomed(&self) -> Result<bool, HistoryError> {
        Ok(self.preference(WELCOMED)?.unwrap_or(false))
    }

    /// Notes that the welcome screen has been gone through.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn set_welcomed(&mut self) -> Result<(), HistoryError> {
        self.prefer(WELCOMED, &true)
    }

    /// Returns the settings; `None` before any were saved, or if they were saved by a version that had others.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn settings(&self) -> Result<Option<Settings>, HistoryError> {
        self.preference(SETTINGS)
    }

    /// Saves the settings.
    ///
    /// # Errors
    ///
    /// [`HistoryError::OutOfRange`] if the battery's floor is not between 0 and 1.
    pub fn save_settings(&mut self, settings: &Settings) -> Result<(), HistoryError> {
        if !(0.0..=1.0).contains(&settings.battery_floor) {
            return Err(HistoryError::OutOfRange("battery_floor"));
        }
        self.prefer(SETTINGS, settings)
    }

    /// Returns the models that people brought, by id.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn models(&self) -> Result<Vec<KnownModel>, HistoryError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, path, address, file_name, file_bytes, modified_ms, sha256
             FROM model ORDER BY id LIMIT ?1",
        )?;
        let models = select.query_map([MODELS_MAX], |row| {
            let place = match row.get::<_, Option<String>>(1)? {
                Some(path) => Place::Path(path.into()),
                None => Place::Address(row.get(2)?),
            };
            Ok(KnownModel {
                id: ModelId(row.get(0)?),
                place,
                file_name: row.get(3)?,
                file_bytes: from_sql(row.get(4)?),
                modified_ms: from_sql(row.get(5)?),
                sha256: row.get(6)?,
            })
        })?;
        Ok(models.collect::<Result<_, _>>()?)
    }

    /// Remembers a model, in place of what was known of it.
    ///
    /// # Errors
    ///
    /// - [`HistoryError::NotUnicode`] if its path is not
    /// - [`HistoryError::TooLong`] if its id, its path, its address or its file's name has more than 4 KiB
    pub fn remember_model(&mut self, model: &KnownModel) -> Result<(), HistoryError> {
        let (path, address) = match &model.place {
            Place::Path(path) => match path.to_str() {
                Some(path) => (Some(path), None),
                None => return Err(HistoryError::NotUnicode(path.clone())),
            },
            Place::Address(address) => (None, Some(address.as_str())),
        };
        let texts = [Some(model.id.0.as_str()), path, address];
        for text in texts
            .into_iter()
            .flatten()
            .chain([model.file_name.as_str()])
        {
            Limited::Model.check(text)?;
        }
        let transaction = self.begin_synced()?;
        transaction.execute(
            "INSERT OR REPLACE INTO model
             (id, path, address, file_name, file_bytes, modified_ms, sha256)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                model.id.0,
                path,
                address,
                model.file_name,
                to_sql(model.file_bytes),
                to_sql(model.modified_ms),
                model.sha256
            ],
        )?;
        Ok(transaction.commit()?)
    }

    /// Forgets a model, if it was known. Its file stays.
    ///
    /// # Errors
    ///
    /// Only those of the database.
    pub fn forget_model(&mut self, id: &ModelId) -> Result<(), HistoryError> {
        let transaction = self.begin_synced()?;
        transaction.execute("DELETE FROM model WHERE id = ?1", [&id.0])?;
        Ok(transaction.commit()?)
    }

    fn preference<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, HistoryError> {
        let value: Option<String> = self
            .connection
            .query_one(
                "SELECT value FROM preference WHERE key = ?1",
                [key],
                |row| row.get(0),
            )
            .optional()?;
        Ok(value.and_then(|json| {
            serde_json::from_str(&json)
                .inspect_err(|_| {
                    tracing::warn!(
                        key,
                        "A preference cannot be read, and is as if it had not been set"
                    )
                })
                .ok()
        }))
    }

    fn prefer(&mut self, key: &str, value: &impl Serialize) -> Result<(), HistoryError> {
        let json = serde_json::to_string(value).expect("a preference can be written as JSON");
        let transaction = self.begin_synced()?;
        transaction.execute(
            "INSERT OR REPLACE INTO preference (key, value) VALUES (?1, ?2)",
            [key, &json],
        )?;
        Ok(transaction.commit()?)
    }
}
