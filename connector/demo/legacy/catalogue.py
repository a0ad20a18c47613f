"""What the application is installed with: services, units, and the services that are added while it runs.

The codes look like the national catalogue's and the names are of the kind it has; the data are made up for the demo.
"""

from __future__ import annotations

from typing import NamedTuple


class Service(NamedTuple):
    """A row of thu_tuc. `level` is 4, 3 or 0; `fee` in đồng, 0 when nothing is due."""

    id: int
    code: str
    name: str
    field: str
    level: int
    fee: int


class Unit(NamedTuple):
    """A row of don_vi."""

    id: int
    identifier: str
    name: str
    phone: str


SERVICES = (
    Service(1, "2.000082", "Cấp giấy phép bưu chính", "Bưu chính", 4, 10_750_000),
    Service(2, "1.001193", "Đăng ký khai sinh", "Hộ tịch", 4, 0),
    Service(3, "1.000894", "Đăng ký kết hôn", "Hộ tịch", 3, 0),
    Service(4, "1.000656", "Đăng ký khai tử", "Hộ tịch", 4, 0),
    Service(5, "1.004873", "Cấp giấy xác nhận tình trạng hôn nhân", "Hộ tịch", 4, 15_000),
    Service(6, "2.000635", "Cấp bản sao trích lục hộ tịch", "Hộ tịch", 4, 8_000),
    Service(7, "2.000815", "Chứng thực bản sao từ bản chính giấy tờ, văn bản", "Chứng thực", 3, 10_000),
    Service(8, "2.000884", "Chứng thực chữ ký trong các giấy tờ, văn bản", "Chứng thực", 0, 10_000),
    Service(9, "1.001612", "Đăng ký thành lập hộ kinh doanh", "Thành lập và hoạt động hộ kinh doanh", 4, 100_000),
    Service(10, "2.000720", "Đăng ký thay đổi nội dung đăng ký hộ kinh doanh", "Hộ kinh doanh", 4, 100_000),
    Service(11, "2.001610", "Đăng ký thành lập doanh nghiệp tư nhân", "Doanh nghiệp", 4, 50_000),
    Service(12, "2.001996", "Đăng ký thay đổi địa chỉ trụ sở chính của doanh nghiệp", "Doanh nghiệp", 4, 50_000),
    Service(13, "2.000488", "Cấp phiếu lý lịch tư pháp cho công dân Việt Nam", "Lý lịch tư pháp", 4, 200_000),
    Service(14, "1.004227", "Đăng ký biến động quyền sử dụng đất", "Đất đai", 3, 120_000),
    Service(15, "1.000798", "Chuyển mục đích sử dụng đất", "Đất đai", 3, 500_000),
    Service(16, "1.009994", "Cấp giấy phép xây dựng mới đối với nhà ở riêng lẻ", "Xây dựng", 3, 75_000),
    Service(17, "1.002801", "Đổi giấy phép lái xe do ngành Giao thông vận tải cấp", "Đường bộ", 4, 135_000),
    Service(
        18, "2.001827", "Cấp giấy chứng nhận cơ sở đủ điều kiện an toàn thực phẩm", "An toàn thực phẩm", 4, 700_000
    ),
    Service(
        19, "1.004363", "Cấp giấy chứng nhận đủ điều kiện buôn bán thuốc bảo vệ thực vật", "Bảo vệ thực vật", 3, 500_000
    ),
    Service(20, "1.001776", "Trợ giúp xã hội hàng tháng", "Bảo trợ xã hội", 3, 0),
    Service(21, "1.010801", "Giải quyết chế độ trợ cấp thờ cúng liệt sĩ", "Người có công", 3, 0),
    Service(22, "2.001884", "Cấp giấy chứng nhận trò chơi điện tử công cộng", "Phát thanh, truyền hình", 4, 0),
    Service(23, "1.005092", "Cấp bản sao văn bằng, chứng chỉ từ sổ gốc", "Văn bằng, chứng chỉ", 4, 0),
    Service(24, "1.000105", "Báo cáo giải trình nhu cầu sử dụng lao động nước ngoài", "Việc làm", 0, 0),
)

# Added by an officer while the application runs, in the transaction of their first dossier.
LATE_SERVICES = (
    Service(101, "3.000181", "Cấp phép sử dụng tạm thời một phần hè phố", "Hạ tầng kỹ thuật", 4, 60_000),
    Service(102, "3.000205", "Đăng ký tham gia sàn giao dịch nông sản của tỉnh", "Nông nghiệp", 3, 0),
    Service(103, "3.000222", "Xác nhận nguồn gốc cây trồng đặc sản", "Nông nghiệp", 4, 0),
    Service(104, "3.000240", "Thông báo tổ chức lễ hội cấp xã", "Văn hóa cơ sở", 0, 0),
)

UNITS = (
    Unit(1, "000.00.02.H56", "Sở Kế hoạch và Đầu tư", "0237 3852 366"),
    Unit(2, "000.00.05.H56", "Sở Giao thông vận tải", "0237 3852 456"),
    Unit(3, "000.00.08.H56", "Sở Tài nguyên và Môi trường", "0237 3755 826"),
    Unit(4, "000.00.09.H56", "Sở Nông nghiệp và Phát triển nông thôn", "0237 3850 345"),
    Unit(5, "000.00.11.H56", "Sở Thông tin và Truyền thông", "0237 3718 299"),
    Unit(6, "000.00.12.H56", "Sở Tư pháp", "0237 3852 219"),
    Unit(7, "000.00.16.H56", "Sở Lao động - Thương binh và Xã hội", "0237 3852 553"),
    Unit(8, "000.00.20.H56", "Sở Xây dựng", "0237 3852 466"),
    Unit(9, "000.00.31.H56", "Ủy ban nhân dân thành phố Thanh Hóa", "0237 3852 324"),
    Unit(10, "000.00.35.H56", "Ủy ban nhân dân huyện Đông Sơn", "0237 3820 215"),
    Unit(11, "000.09.31.H56", "Ủy ban nhân dân phường Điện Biên", "0237 3852 735"),
    Unit(12, "000.14.31.H56", "Ủy ban nhân dân xã Quảng Phú", "0237 3675 002"),
    Unit(13, "000.05.35.H56", "Ủy ban nhân dân xã Đông Khê", "0237 3690 118"),
    Unit(14, "000.11.35.H56", "Ủy ban nhân dân thị trấn Rừng Thông", "0237 3820 074"),
)
