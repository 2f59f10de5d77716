//! How much of something each holder may have at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places taken, by holder; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Quota(Arc<Mutex<HashMap<String, usize>>>);

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    quota: Quota,
    holder: String,
}

impl Quota {
    /// A place for `holder`, unless it has `most` already.
    pub fn take(&self, holder: &str, most: usize) -> Option<Place> {
        let mut places = self.lock();
        let taken = places.entry(holder.to_owned()).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place { quota: self.clone(), holder: holder.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.quota.lock();
        if let Some(taken) = places.get_mut(&self.holder) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_its_own_places_and_gets_them_back() {
        let quota = Quota::default();
        let mut held: Vec<Place> = (0..2).filter_map(|_| quota.take("a", 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(quota.take("a", 2).is_none() && quota.take("b", 2).is_some());
        held.pop();
        assert!(quota.take("a", 2).is_some());
        held.clear();
        assert!(quota.lock().is_empty(), "nothing is kept of holders that are gone");
    }
}
