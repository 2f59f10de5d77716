//! Links, commands and mail: how what happens at one coordinator reaches the one that leads the capture, and back.

use sqlx::Row as _;

use super::super::{ASKED, Row, WORK};
use super::{Shared, lease, notify};
use crate::model::State;
use crate::store::cluster::{CommandRow, LinkRow, MailRow, Word};
use crate::store::codec::text;
use crate::store::{Fence, StoreError};

/// Commands and mail that nobody took for so long never will be, nanoseconds.
const STALE_NANOS: i64 = 3600 * crate::model::SECOND;

impl Shared {
    /// Agents of the other coordinators that live.
    pub async fn links(&self) -> Result<Vec<LinkRow>, StoreError> {
        let asking = sqlx::query(
            "SELECT l.node, l.coordinator, l.session, l.connected_at, l.detail
             FROM links l JOIN coordinators c ON c.id = l.coordinator
             WHERE c.id <> $1 AND c.alive_until > lastseen_now()",
        )
        .bind(self.0.id)
        .fetch_all(&self.0.pool);
        self.0.once(async { asking.await?.iter().map(read_link).collect() }).await
    }

    /// Writes those of this process's agents that changed, and removes those whose streams are not among `sessions`.
    pub async fn publish_links(&self, changed: &[LinkRow], sessions: &[u64]) -> Result<(), StoreError> {
        self.0.once(self.write_links(changed, sessions)).await
    }

    async fn write_links(&self, changed: &[LinkRow], sessions: &[u64]) -> Result<(), StoreError> {
        let mut transaction = self.0.pool.begin().await?;
        let removed = sqlx::query("DELETE FROM links WHERE coordinator = $1 AND session <> ALL($2)")
            .bind(self.0.id)
            .bind(sessions.iter().map(|session| *session as i64).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO links (node, coordinator, session, connected_at, detail)
             SELECT l.node, $1, l.session, l.connected_at, l.detail
             FROM UNNEST($2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::TEXT[]) AS l (node, session, connected_at, detail)
             ON CONFLICT (node, coordinator) DO UPDATE SET session = excluded.session,
                 connected_at = excluded.connected_at, detail = excluded.detail",
        )
        .bind(self.0.id)
        .bind(changed.iter().map(|link| text(&link.node).into_owned()).collect::<Vec<_>>())
        .bind(changed.iter().map(|link| link.session as i64).collect::<Vec<_>>())
        .bind(changed.iter().map(|link| link.connected_at_nanos).collect::<Vec<_>>())
        .bind(changed.iter().map(|link| text(&link.detail).into_owned()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        if removed.rows_affected() > 0 || !changed.is_empty() {
            notify(&mut transaction, self.0.id, Word::Links).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Leaves commands for agents of others, if `fence` still holds; one without is of a capture that is not stored.
    pub async fn send(&self, fence: Option<&Fence>, commands: &[CommandRow]) -> Result<(), StoreError> {
        let store = &self.0;
        store
            .again(ASKED, || async move {
                let mut transaction = store.pool.begin().await?;
                if let Some(fence) = fence {
                    lease::check(&mut transaction, fence).await?;
                }
                sqlx::query(
                    "INSERT INTO commands (session, node, command)
                     SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[])",
                )
                .bind(commands.iter().map(|command| command.session as i64).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| text(&command.node).into_owned()).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| text(&command.command).into_owned()).collect::<Vec<_>>())
                .execute(&mut *transaction)
                .await?;
                notify(&mut transaction, store.id, Word::Commands).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Takes what is there for these streams, in the order in which it was sent.
    pub async fn take_commands(&self, sessions: &[u64]) -> Result<Vec<CommandRow>, StoreError> {
        let asking = sqlx::query(
            "WITH taken AS (DELETE FROM commands WHERE session = ANY($1) RETURNING id, session, node, command)
             SELECT session, node, command FROM taken ORDER BY id",
        )
        .bind(sessions.iter().map(|session| *session as i64).collect::<Vec<_>>())
        .fetch_all(&self.0.pool);
        let read = |row: &Row| -> Result<CommandRow, StoreError> {
            let session = row.try_get::<i64, _>("session")? as u64;
            Ok(CommandRow { session, node: row.try_get("node")?, command: row.try_get("command")? })
        };
        self.0.once(async { asking.await?.iter().map(read).collect() }).await
    }

    /// Leaves word for whoever leads these captures. A row that the database cannot hold is left out, and holds up no other.
    pub async fn post(&self, mail: &[MailRow]) -> Result<(), StoreError> {
        match self.post_all(mail).await {
            Err(error) if is_of_data(&error) => {}
            done => return done,
        }
        for row in mail {
            match self.post_all(std::slice::from_ref(row)).await {
                Err(error) if is_of_data(&error) => {
                    tracing::error!(capture = row.capture, node = row.node, kind = row.kind, %error, "mail is left out");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// All of it, or nothing.
    async fn post_all(&self, mail: &[MailRow]) -> Result<(), StoreError> {
        let store = &self.0;
        let texts = |field: fn(&MailRow) -> &String| -> Vec<String> {
            mail.iter().map(|row| text(field(row)).into_owned()).collect()
        };
        let columns = [
            texts(|row| &row.capture),
            texts(|row| &row.node),
            texts(|row| &row.kind),
            texts(|row| &row.subject),
            texts(|row| &row.content),
        ];
        let columns = &columns;
        store
            .again(WORK, || async move {
                let mut transaction = store.pool.begin().await?;
                sqlx::query(
                    "INSERT INTO mail (capture_id, node, kind, subject, content, connected_at, attachment)
                     SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[],
                         $7::BYTEA[])
                     ON CONFLICT (capture_id, node, kind, subject) DO UPDATE SET content = excluded.content,
                         connected_at = excluded.connected_at, attachment = excluded.attachment,
                         number = excluded.number, posted_at = excluded.posted_at
                     WHERE mail.connected_at <= excluded.connected_at",
                )
                .bind(&columns[0])
                .bind(&columns[1])
                .bind(&columns[2])
                .bind(&columns[3])
                .bind(&columns[4])
                .bind(mail.iter().map(|row| row.connected_at_nanos).collect::<Vec<_>>())
                .bind(mail.iter().map(|row| row.attachment.as_ref().map(|bytes| bytes.to_vec())).collect::<Vec<_>>())
                .execute(&mut *transaction)
                .await?;
                notify(&mut transaction, store.id, Word::Mail).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Numbers of the mail of these captures, which change with what is in it.
    pub async fn mail_numbers(&self, captures: &[String]) -> Result<Vec<i64>, StoreError> {
        let asking = sqlx::query_scalar("SELECT number FROM mail WHERE capture_id = ANY($1)")
            .bind(captures)
            .fetch_all(&self.0.pool);
        self.0.once(async { Ok(asking.await?) }).await
    }

    /// The mail with these numbers, oldest first.
    pub async fn mail(
        &self,
        captures: &[String],
        numbers: &[i64],
    ) -> Result<Vec<(i64, MailRow)>, StoreError> {
        let asking = sqlx::query(
            "SELECT number, capture_id, node, kind, subject, connected_at, content, attachment
             FROM mail WHERE capture_id = ANY($1) AND number = ANY($2) ORDER BY number",
        )
        .bind(captures)
        .bind(numbers)
        .fetch_all(&self.0.pool);
        let read = |row: &Row| Ok((row.try_get("number")?, read_mail(row)?));
        self.0.once(async { asking.await?.iter().map(read).collect() }).await
    }

    /// Nobody will ask for the mail of this capture any more.
    pub async fn forget(&self, capture: &str) -> Result<(), StoreError> {
        let asking =
            sqlx::query("DELETE FROM mail WHERE capture_id = $1").bind(text(capture)).execute(&self.0.pool);
        self.0.once(async { Ok(asking.await.map(|_| ())?) }).await
    }

    /// Removes what was left for streams and captures that are no more.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.0.once(self.sweep_all()).await
    }

    async fn sweep_all(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM commands WHERE sent_at < lastseen_now() - $1")
            .bind(STALE_NANOS)
            .execute(&self.0.pool)
            .await?;
        sqlx::query(
            "DELETE FROM mail m WHERE m.posted_at < lastseen_now() - $1
             AND NOT EXISTS (SELECT 1 FROM captures c WHERE c.id = m.capture_id AND c.state < $2)",
        )
        .bind(STALE_NANOS)
        .bind(State::Completed as i64)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }
}

/// Whether the database refuses what is in a row, and will refuse it again (the manual's appendix A): cardinality, data,
/// constraints, limits.
fn is_of_data(error: &StoreError) -> bool {
    let StoreError::Sql(sqlx::Error::Database(error)) = error else { return false };
    let code = error.code().unwrap_or_default();
    ["21", "22", "23", "54"].iter().any(|class| code.starts_with(class))
}

fn read_link(row: &Row) -> Result<LinkRow, StoreError> {
    Ok(LinkRow {
        node: row.try_get("node")?,
        coordinator: row.try_get("coordinator")?,
        session: row.try_get::<i64, _>("session")? as u64,
        connected_at_nanos: row.try_get("connected_at")?,
        detail: row.try_get("detail")?,
    })
}

fn read_mail(row: &Row) -> Result<MailRow, StoreError> {
    Ok(MailRow {
        capture: row.try_get("capture_id")?,
        node: row.try_get("node")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        connected_at_nanos: row.try_get("connected_at")?,
        content: row.try_get("content")?,
        attachment: row.try_get::<Option<Vec<u8>>, _>("attachment")?.map(Into::into),
    })
}
