-- What `emc-cdc setup` asks the owner of the tables to run, in a form that may be repeated: the publication, and what
-- the role emc_cdc may read. No trigger, no superuser; the tables stay as they are.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'emc_cdc_motcua') THEN
        CREATE PUBLICATION emc_cdc_motcua
            FOR TABLE motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc, motcua.don_vi, motcua.tai_khoan
            WITH (publish = 'insert, update, delete, truncate');
    END IF;
END
$$;
GRANT CONNECT ON DATABASE motcua TO emc_cdc;
GRANT USAGE ON SCHEMA motcua TO emc_cdc;
GRANT SELECT ON motcua.ho_so, motcua.thanh_toan, motcua.thu_tuc, motcua.don_vi, motcua.tai_khoan TO emc_cdc;
