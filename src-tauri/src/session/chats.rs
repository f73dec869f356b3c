//! Conversations, apart from what is written in them.

use super::answers::problem;
use super::worker::Worker;
use crate::answering::Ended;
use crate::api::{Conversation, ConversationId, MessageId, Problem, Sampling, SearchHit};
use crate::clock;

impl Worker {
    pub(super) async fn create(&mut self) -> Result<ConversationId, Problem> {
        let now = clock::unix_ms();
        let created = self
            .history
            .run(move |archive| archive.create(&Sampling::default(), now));
        let id = created.await.map_err(problem)?;

        self.recount().await;
        Ok(id)
    }

    pub(super) async fn load(&self, id: ConversationId) -> Result<Conversation, Problem> {
        let loaded = self.history.run(move |archive| archive.load(&id));

        loaded.await.map_err(problem)
    }

    pub(super) async fn search(&self, query: String) -> Result<Vec<SearchHit>, Problem> {
        let found = self.history.run(move |archive| archive.search(&query));

        found.await.map_err(problem)
    }

    pub(super) async fn rename_conversation(
        &mut self,
        id: ConversationId,
        title: String,
    ) -> Result<(), Problem> {
        let renamed = self.history.run(move |archive| archive.rename(&id, &title));
        renamed.await.map_err(problem)?;

        self.recount().await;
        Ok(())
    }

    pub(super) async fn delete_conversation(&mut self, id: ConversationId) -> Result<(), Problem> {
        self.give_up(&id, Ended::stopped()).await;
        let deleted = self.history.run(move |archive| archive.delete(&id));
        deleted.await.map_err(problem)?;

        self.recount().await;
        Ok(())
    }

    pub(super) async fn delete_message(
        &mut self,
        id: ConversationId,
        message: MessageId,
    ) -> Result<(), Problem> {
        let is_answering = self.answers.contains_key(&id);
        let deleted = self.history.run(move |archive| {
            if !is_answering {
                archive.end_left(Some(&id))?;
            }
            archive.delete_message(&id, &message)
        });
        deleted.await.map_err(problem)?;

        self.recount().await;
        Ok(())
    }

    pub(super) async fn configure(
        &mut self,
        id: ConversationId,
        system_prompt: String,
        sampling: Sampling,
    ) -> Result<(), Problem> {
        let configured = self
            .history
            .run(move |archive| archive.configure(&id, &system_prompt, &sampling));

        configured.await.map_err(problem)
    }
}
