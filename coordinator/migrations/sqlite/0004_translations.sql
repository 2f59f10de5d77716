-- What a node's connection tracking translated while it recorded, encoded as NodeTranslations.
ALTER TABLE capture_nodes ADD COLUMN translations BLOB;
