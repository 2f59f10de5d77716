//! `AuditService`: who did what.

use lastseen_proto::convert::timestamp;
use lastseen_proto::v1;
use lastseen_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::{Context, page};
use crate::access::caller;
use crate::audit::{Outcome, Query, Record};
use crate::error::Error;
use crate::limits;

/// `AuditService`.
pub struct AuditApi(pub Context);

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_audit(
        &self,
        call: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let caller = caller(&call)?;
        let v1::ListAuditRequest { page_size, page_token, since, who } = call.into_inner();
        let size = page::size(page_size, limits::DEFAULT_AUDIT_PAGE, limits::AUDIT_PAGE)?;
        let before = Some(page::ordinal(&page_token)?).filter(|before| *before > 0);
        let since_nanos = since.as_ref().map(nanos).transpose()?;
        let who = identities(&self.0.guard.trust_domain, who);
        let query = Query { before, since_nanos, who };
        let found = self.0.store.audit(&query, size).await.map_err(Error::from)?;
        self.0.guard.audit.download(&caller, "list-audit", "").await?;
        let last = found.last().filter(|_| found.len() == size as usize);
        let next_page_token = last.map_or_else(String::new, |(id, _)| id.to_string());
        let records = found.into_iter().map(message).collect();
        Ok(Response::new(v1::ListAuditResponse { records, next_page_token }))
    }
}

fn nanos(since: &prost_types::Timestamp) -> Result<i64, Error> {
    let nanos = since.seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(since.nanos.into()));
    nanos.ok_or_else(|| Error::invalid("since", "is no time this century; give RFC 3339"))
}

/// What a name may stand for: itself if it is a whole identity, else the last part of one.
fn identities(trust_domain: &str, who: String) -> Vec<String> {
    if who.is_empty() || who.contains("://") {
        return Some(who).filter(|who| !who.is_empty()).into_iter().collect();
    }
    ["operator", "viewer", "agent"].map(|role| format!("spiffe://{trust_domain}/{role}/{who}")).to_vec()
}

fn message((id, record): (u64, Record)) -> v1::AuditRecord {
    use v1::audit_record::Outcome as Told;
    let outcome = match record.outcome {
        Outcome::Begun => Told::Begun,
        Outcome::Done => Told::Done,
        Outcome::Refused => Told::Refused,
        Outcome::Failed => Told::Failed,
    };
    v1::AuditRecord {
        id,
        at: Some(timestamp(record.at_nanos)),
        who: record.who,
        peer: record.peer,
        action: record.action,
        subject: record.subject,
        outcome: outcome.into(),
        detail: record.detail,
    }
}
