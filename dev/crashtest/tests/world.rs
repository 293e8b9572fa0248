//! Test of the model: random transactions on stores in memory, without failures. If this test
//! fails, the results of the other tests are meaningless.

use std::sync::Arc;

use pongo_core::storage::{MemoryStorage, Storage};
use pongo_crashtest::{Mix, StoreModel, Transaction, look, options, seed};
use pongo_sim::Random;

#[test]
fn store_equals_its_model() {
    let seed = seed("store_equals_its_model", 1);
    for (round, mix) in [Mix::SMALL, Mix::LARGE, Mix::SMALL].into_iter().enumerate() {
        let mut random = Random(seed + round as u64);
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut world = StoreModel::default();
        for _ in 0..4 {
            let store = options().open_on(Arc::clone(&storage)).unwrap();
            look(&store, &world).assert_ok();
            for _ in 0..12 {
                let transaction = Transaction::arbitrary(&world, &mut random, mix);
                transaction.apply(&world, &store).unwrap();
                world = transaction.after;
                look(&store, &world).assert_ok();
            }
            let report = store.verify(|_| ()).unwrap();
            assert!(report.is_valid(), "{report}");
            store.close().unwrap();
        }
        assert!(world.rows() > 10, "the world is empty");
    }
}
