-- Dossiers of the legacy one-stop application in number :count, all of them sound, of every kind that the guide tells
-- apart. What may not be there in a sound database is not forbidden here, so that a test can plant it.
ALTER TABLE motcua.ho_so DROP CONSTRAINT ho_so_thu_tuc_id_fkey, DROP CONSTRAINT ho_so_don_vi_id_fkey,
    DROP CONSTRAINT ho_so_tai_khoan_id_fkey, DROP CONSTRAINT ho_so_kenh_nop_check,
    DROP CONSTRAINT ho_so_hinh_thuc_tra_check, DROP CONSTRAINT ho_so_ma_ho_so_key;
ALTER TABLE motcua.thanh_toan DROP CONSTRAINT thanh_toan_hinh_thuc_check;
ALTER TABLE motcua.thu_tuc DROP CONSTRAINT thu_tuc_muc_do_check;
ALTER TABLE motcua.tai_khoan DROP CONSTRAINT tai_khoan_loai_check;

INSERT INTO motcua.thu_tuc (id, ma, ten, muc_do)
SELECT n, '1.' || lpad(n::text, 6, '0'), 'Thủ tục số ' || n, (ARRAY[4, 4, 3, 0])[1 + n % 4] FROM generate_series(1, 12) n;
INSERT INTO motcua.don_vi (id, ma_dinh_danh, ten)
SELECT n, '000.00.' || lpad(n::text, 2, '0') || '.H10', 'Đơn vị ' || n FROM generate_series(1, 7) n;
INSERT INTO motcua.tai_khoan (id, loai, id_dvcqg, id_dia_phuong, ho_ten, tao_luc)
SELECT n, (ARRAY['ca_nhan', 'doanh_nghiep', 'can_bo'])[1 + n % 3], 'QG-' || n, 'DP-' || n, 'Nguyễn Văn ' || n, '2025-01-01'
FROM generate_series(1, 1 + :count / 3) n;

INSERT INTO motcua.ho_so (id, ma_ho_so, thu_tuc_id, don_vi_id, tai_khoan_id, trang_thai, kenh_nop, tu_dvcqg,
    hinh_thuc_tra, ngay_tiep_nhan, ho_ten, cap_nhat)
SELECT n, CASE WHEN received THEN '000.00.01.H10-260101-' || lpad(n::text, 6, '0') END,
    1 + abs(hashint4(n * 7) % 12), 1 + abs(hashint4(n * 5) % 7), 1 + abs(hashint4(n * 3) % (1 + :count / 3)),
    CASE WHEN received THEN (ARRAY['da_tra_ket_qua', 'da_tra_ket_qua', 'da_tra_ket_qua', 'dang_xu_ly', 'huy'])
        [1 + abs(hashint4(n) % 5)] ELSE 'cho_tiep_nhan' END,
    (ARRAY['truc_tuyen', 'truc_tuyen', 'truc_tiep'])[1 + abs(hashint4(n * 11) % 3)],
    n % 2 = 0,
    (ARRAY['mot_cua', 'dien_tu', 'dien_tu', 'vnpost', 'buu_chinh_khac'])[1 + abs(hashint4(n * 13) % 5)],
    CASE WHEN received THEN timestamp '2026-01-01' + abs(hashint4(n * 17) % (180 * 86400)) * interval '1 second' END,
    'Trần Thị ' || n, '2026-07-01'
FROM (SELECT n, n % 10 <> 0 AS received FROM generate_series(1, :count) n) rows;

-- None, one that was paid, one that was paid after another had failed, one that was refunded.
INSERT INTO motcua.thanh_toan (ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem)
SELECT id, 10000, (ARRAY['dvcqg', 'vi_dien_tu', 'tien_mat'])[1 + id % 3], (ARRAY['cho', 'hoan_tien'])[1 + id % 2], '2026-01-02'
FROM motcua.ho_so WHERE id % 4 = 1;
INSERT INTO motcua.thanh_toan (ho_so_id, so_tien, hinh_thuc, trang_thai, thoi_diem)
SELECT id, 10000, (ARRAY['dvcqg', 'vi_dien_tu', 'tien_mat'])[1 + id / 7 % 3], 'da_thanh_toan', '2026-01-03'
FROM motcua.ho_so WHERE id % 3 <> 0;
ANALYZE
