//! Migrations that were released are never changed: databases in the field refuse a coordinator that did.

use sqlx::migrate::Migrator;

/// Version and the first eight bytes of the SHA-384 of the text, as databases hold it. Add to these, and change none.
const SQLITE: &[(i64, u64)] = &[
    (1, 0xbd28_6f5d_803b_c6e3),
    (2, 0x5a9a_254a_ecef_fd61),
    (3, 0x7842_51b1_e817_2150),
    (4, 0xb13b_fcc0_5762_3e68),
    (5, 0x6d64_a45d_4408_f499),
    (6, 0xce7c_fca3_234f_ec6c),
    (7, 0x5a3b_4ef6_9f4b_1774),
    (8, 0x3bf2_b364_d129_8d2a),
    (9, 0xf5fb_2384_880e_b023),
    (10, 0xf50e_41cf_daa8_7ef1),
];
const POSTGRES: &[(i64, u64)] = &[
    (1, 0x8c8d_9996_beda_67a1),
    (2, 0x3ef0_98e6_9df9_95a6),
    (3, 0xc352_063b_ed85_84f9),
    (4, 0xc997_f0da_a51d_d106),
    (5, 0xf5fb_2384_880e_b023),
    (6, 0x02d8_b4e1_4689_7555),
    (7, 0x4d6b_f0d8_fd9b_1ae8),
];

fn released(migrator: &Migrator) -> Vec<(i64, u64)> {
    let first = |checksum: &[u8]| checksum.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    migrator.iter().map(|migration| (migration.version, first(&migration.checksum))).collect()
}

#[test]
fn what_was_released_is_unchanged() {
    assert_eq!(released(&sqlx::migrate!("./migrations/sqlite")), SQLITE);
    assert_eq!(released(&sqlx::migrate!("./migrations/postgres")), POSTGRES);
}
