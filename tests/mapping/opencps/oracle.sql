-- What EMC is owed for dossiers of OpenCPS v2, worked out in SQL from what the script of lives noted.
--
-- The script calls told.note in every transaction, as its last statement, with the dossiers that it touched; a
-- transaction that changed the catalogue notes the dossiers of that procedure as `catalogue`. What is noted is the rows
-- as they stand; what they mean is said below and nowhere else: it shares nothing with the connector, only the guide.
--
-- Rules: Status 1, 2, 3, 0 (in this order) is owed by a transaction after which it holds and did not before. If there
-- is none, and the last owed event would have other parameters now, it is owed again. A transaction whose event lacks a
-- parameter owes nothing and counts as not looked at; the dossier waits, also for the catalogue. The catalogue alone
-- does not make a dossier that does not wait be looked at. An event of a Status that does not hold any more is not
-- waited for. Without a number nothing is owed and nothing counts as reached.
CREATE SCHEMA told;

CREATE TABLE told.states (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dossierid bigint NOT NULL,
    catalogue bool NOT NULL,
    dossier jsonb NOT NULL,
    payments jsonb NOT NULL,
    level integer
);

-- Notes how these dossiers stand; those that are deleted are not noted.
CREATE FUNCTION told.note(dossiers bigint[], catalogue bool DEFAULT false) RETURNS void LANGUAGE sql AS $$
    INSERT INTO told.states (dossierid, catalogue, dossier, payments, level)
    SELECT d.dossierid, note.catalogue, to_jsonb(d),
           coalesce(
               (SELECT jsonb_agg(to_jsonb(p)) FROM public.opencps_paymentfile p WHERE p.dossierid = d.dossierid), '[]'),
           (SELECT s.maxlevel FROM public.opencps_serviceinfo s WHERE s.servicecode = d.servicecode
            ORDER BY s.serviceinfoid LIMIT 1)
    FROM public.opencps_dossier d WHERE d.dossierid = ANY (dossiers) ORDER BY d.dossierid
$$;

CREATE FUNCTION told.note_catalogue(code text) RETURNS void LANGUAGE sql AS $$
    SELECT told.note(
        coalesce((SELECT array_agg(dossierid) FROM public.opencps_dossier WHERE servicecode = code), '{}'), true)
$$;

-- One line a note: whether it counts, what holds, and the pieces of an event; NULL is what nobody knows.
CREATE VIEW told.meaning AS
SELECT seq, dossierid, catalogue,
       row_number() OVER (PARTITION BY dossierid ORDER BY seq) AS turn,
       CASE WHEN (dossier->>'originality')::int IN (1, 3) THEN nullif(dossier->>'dossierno', '') END AS number,
       ARRAY(
           SELECT status FROM (VALUES
               (1, 1, true),
               (2, 2, dossier->>'dossierstatus' ~ '^(processing|pausing|interoperating|correcting|releasing|posting)$'),
               (3, 3, dossier->>'dossierstatus' = 'done'),
               (4, 0, dossier->>'dossierstatus' IN ('denied', 'unresolved', 'cancelled'))
           ) AS life (place, status, holds)
           WHERE holds AND dossier->>'receivedate' IS NOT NULL
           ORDER BY place
       ) AS reached,
       CASE WHEN level >= 3 THEN level WHEN level IS NOT NULL THEN 0 END AS level,
       (dossier->>'online_')::bool AS online,
       CASE
           WHEN coalesce((dossier->>'viapostal')::int, 0) < 2 THEN 'counter'
           WHEN coalesce(dossier->>'postalservicecode', '') IN ('', 'VNPOST') THEN 'public post'
           ELSE 'carrier'
       END AS returned,
       (SELECT max(CASE
                       WHEN (p->>'paymentstatus')::int NOT IN (2, 3, 5) THEN 0
                       WHEN p->>'paymentmethod' IN ('Chuyển khoản', 'Tiền mặt') OR p->>'paymentmethod' IS NULL THEN 1
                       ELSE 2
                   END)
        FROM jsonb_array_elements(payments) p) AS paid,
       CASE dossier->>'applicantidtype' WHEN 'business' THEN 1 WHEN 'citizen' THEN 2 END AS kind,
       dossier
FROM told.states;

-- The event of a status; NULL when a piece of it is not known.
CREATE FUNCTION told.event(m told.meaning, status int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
    WHEN m.level IS NOT NULL AND m.kind IS NOT NULL AND m.dossier->>'applicantidno' <> '' THEN jsonb_build_object(
        'CodeProfile', m.number,
        'SiteId', 327,
        'CodeTTHC', m.dossier->>'servicecode',
        'NameTTHC', m.dossier->>'servicename',
        'Status', status,
        'FormsReception', CASE
            WHEN status = 3 THEN CASE m.returned WHEN 'counter' THEN 2 ELSE 1 END
            WHEN m.level = 0 OR NOT m.online THEN 2
            ELSE 1
        END,
        'FormsPayments', CASE WHEN status = 3 THEN CASE m.paid WHEN 2 THEN 1 WHEN 1 THEN 2 ELSE 0 END ELSE 0 END,
        'Level', m.level,
        'IsFromDVCQG', CASE m.dossier->>'systemid' WHEN '5' THEN 1 ELSE 0 END,
        'IsDVCBC', CASE
            WHEN status <> 3 THEN 0 WHEN m.returned = 'public post' THEN 1 WHEN m.returned = 'carrier' THEN 2 ELSE 0
        END,
        'Data', '',
        'User', jsonb_build_object(
            'TYPE', m.kind,
            CASE m.kind WHEN 1 THEN 'ID_local' ELSE 'ID_QG' END, m.dossier->>'applicantidno',
            'LOCATION', m.dossier->>'govagencycode'
        )
    ) END
$$;

-- Every dossier's life, note by note: what has been reached, the last event, whether it waits, what this note owes.
CREATE VIEW told.life AS
WITH RECURSIVE noted AS MATERIALIZED (
    SELECT m.dossierid, m.turn, m.catalogue, m.number, m.reached,
           jsonb_build_object(
               '1', told.event(m, 1), '2', told.event(m, 2), '3', told.event(m, 3), '0', told.event(m, 0)
           ) AS events
    FROM told.meaning m
),
life AS (
    SELECT dossierid, 0::bigint AS turn, '{}'::int[] AS reached, NULL::jsonb AS last, false AS waits,
           '{}'::jsonb[] AS owed
    FROM noted WHERE turn = 1
    UNION ALL
    SELECT n.dossierid, n.turn,
           CASE WHEN idle THEN l.reached WHEN n.number IS NULL THEN '{}' WHEN lacking THEN l.reached ELSE n.reached END,
           CASE
               WHEN idle OR n.number IS NULL OR lacking OR cardinality(due) = 0 THEN l.last
               ELSE due[cardinality(due)]
           END,
           CASE WHEN idle THEN l.waits ELSE n.number IS NOT NULL AND lacking END,
           CASE WHEN idle OR n.number IS NULL OR lacking THEN '{}' ELSE due END
    FROM life l
    JOIN noted n ON n.dossierid = l.dossierid AND n.turn = l.turn + 1
    CROSS JOIN LATERAL (SELECT n.catalogue AND NOT l.waits AS idle) i
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT status FROM unnest(n.reached) WITH ORDINALITY AS r (status, place)
                     WHERE status <> ALL (l.reached) ORDER BY place) AS newly
    ) w
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN cardinality(newly) > 0 THEN ARRAY(
                SELECT nullif(n.events->(status::text), 'null')
                FROM unnest(newly) WITH ORDINALITY AS r (status, place) ORDER BY place)
            WHEN l.last IS NULL OR n.events->(l.last->>'Status') = l.last THEN '{}'
            WHEN n.events->(l.last->>'Status') <> 'null' THEN ARRAY[n.events->(l.last->>'Status')]
            WHEN (l.last->>'Status')::int = ANY (n.reached) THEN ARRAY[NULL::jsonb]
            ELSE '{}'
        END AS due
    ) d
    CROSS JOIN LATERAL (SELECT array_position(due, NULL) IS NOT NULL AS lacking) k
)
SELECT * FROM life;
