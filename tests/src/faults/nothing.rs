//! No fault: what the others are held against.

use anyhow::Result;
use async_trait::async_trait;
use rand::rngs::StdRng;

use super::fleet::Fleet;
use super::strike::{Fault, Plan};

/// Nothing breaks.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

#[async_trait(?Send)]
impl Fault for Nothing {
    fn name(&self) -> String {
        "nothing breaks".to_owned()
    }

    fn rounds(&self) -> u64 {
        5
    }

    async fn strike(&self, _fleet: &mut Fleet, _random: &mut StdRng, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn keeps_most(&self) -> bool {
        true
    }
}
