-- The online share by unit, service and month, worked out from the legacy application's own tables and the letter alone.
--
-- A dossier of a fully online service counts as online when it was filed over the network, its result went out
-- electronically or by the public post, and what was paid was paid online. It is looked at once its result is returned.
SELECT dv.ma_dinh_danh, tt.ma, to_char(hs.ngay_tiep_nhan, 'YYYY-MM'),
       count(*),
       count(*) FILTER (WHERE hs.kenh_nop = 'truc_tuyen'),
       count(*) FILTER (WHERE tt.muc_do = 4),
       count(*) FILTER (WHERE tt.muc_do = 4 AND hs.trang_thai = 'da_tra_ket_qua'),
       count(*) FILTER (
           WHERE tt.muc_do = 4 AND hs.trang_thai = 'da_tra_ket_qua' AND hs.kenh_nop = 'truc_tuyen'
           AND hs.hinh_thuc_tra IN ('dien_tu', 'vnpost') AND coalesce(paid.hinh_thuc, '') <> 'tien_mat')
FROM motcua.ho_so hs
JOIN motcua.thu_tuc tt ON tt.id = hs.thu_tuc_id
JOIN motcua.don_vi dv ON dv.id = hs.don_vi_id
LEFT JOIN LATERAL (
    SELECT t.hinh_thuc FROM motcua.thanh_toan t WHERE t.ho_so_id = hs.id AND t.trang_thai = 'da_thanh_toan'
    ORDER BY t.id DESC LIMIT 1
) paid ON true
WHERE hs.ma_ho_so IS NOT NULL AND hs.ngay_tiep_nhan IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
