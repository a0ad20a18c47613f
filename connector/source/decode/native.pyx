# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=False
"""The hot path once more, as C: rows, records, partitions. Optional: without a compiler the package goes without it.

Contract: `Rows.tuple_row`, `record` and `murmur2` give the bytes and raise the errors of their readable equals
(`transcoder.compile_transcoder`, `records.join_record`, `change.partitioner`), held by tests/source/test_native.py.
Texts that are common are converted here; every other text (infinities, BC, numbers of more than 18 digits, types that
are not in `Kinds`) goes to the Python converter of its column, so that no rule of a type exists here alone.
Invariant: no byte is read outside `data` less its padding; every length is compared with what is left before it is
used. Used by one thread at a time, with the GIL.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from connector.source.decode.messages import violation

cdef enum:
    OTHER = 0
    TEXT = 1
    BOOLEAN = 2
    INTEGER = 3
    DECIMAL = 4
    DATE = 5
    TIMESTAMP = 6

KINDS = {"text": TEXT, "boolean": BOOLEAN, "integer": INTEGER, "decimal": DECIMAL, "date": DATE, "timestamp": TIMESTAMP}
"""The families that have C code of their own. `number` of a Field: a decimal's scale, a timestamp's unit in us."""

cdef int PADDING = 4
cdef int LONGEST = 32
"""No form that is written here, but for text, is longer."""

cdef struct Column:
    bint kept
    int kind
    int number
    bint nullable
    bint key
    bint bare
    bint link


cdef inline unsigned char *put_base128(unsigned char *out, uint64_t rest) noexcept:
    while rest >= 0x80:
        out[0] = <unsigned char>(rest & 0x7F | 0x80)
        out += 1
        rest >>= 7
    out[0] = <unsigned char>rest
    return out + 1


cdef inline unsigned char *put_zigzag(unsigned char *out, int64_t number) noexcept:
    return put_base128(out, (<uint64_t>number << 1) ^ <uint64_t>(number >> 63))


cdef inline bint digits(const unsigned char *text, Py_ssize_t size, int64_t *number) noexcept:
    """A number of 1 to 18 digits, which 64 bits hold in any case."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    cdef unsigned char digit
    if size < 1 or size > 18:
        return False
    for i in range(size):
        digit = text[i] - 48
        if digit > 9:
            return False
        value = value * 10 + digit
    number[0] = value
    return True


cdef inline bint integer(const unsigned char *text, Py_ssize_t size, int64_t *number) noexcept:
    if size > 1 and text[0] == 45:
        if not digits(text + 1, size - 1, number):
            return False
        number[0] = -number[0]
        return True
    return digits(text, size, number)


cdef inline bint decimal(const unsigned char *text, Py_ssize_t size, int scale, int64_t *number) noexcept:
    """The unscaled number of exactly `scale` decimals, 18 digits in all."""
    cdef bint negative = size > 0 and text[0] == 45
    cdef int64_t whole = 0, fraction = 0
    cdef int i
    if negative:
        text += 1
        size -= 1
    if size > 18:
        return False
    if scale == 0:
        if not digits(text, size, &whole):
            return False
    else:
        if size < scale + 2 or text[size - scale - 1] != 46:
            return False
        if not digits(text, size - scale - 1, &whole) or not digits(text + size - scale, scale, &fraction):
            return False
        for i in range(scale):
            whole *= 10
        whole += fraction
    number[0] = -whole if negative else whole
    return True


cdef int *MONTHS = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


cdef inline bint date(const unsigned char *text, int64_t *days) noexcept:
    """`YYYY-MM-DD`, ten bytes: days since the epoch, by the proleptic Gregorian calendar."""
    cdef int64_t year, month, day, cycle, of_cycle
    if text[4] != 45 or text[7] != 45:
        return False
    if not digits(text, 4, &year) or not digits(text + 5, 2, &month) or not digits(text + 8, 2, &day):
        return False
    if year < 1 or month < 1 or month > 12 or day < 1:
        return False
    if day > MONTHS[month] and not (
        month == 2 and day == 29 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    ):
        return False
    # Years that begin in March have their leap day at the end.
    if month < 3:
        year -= 1
        month += 12
    cycle = year // 400
    of_cycle = year - cycle * 400
    days[0] = (
        cycle * 146097
        + of_cycle * 365 + of_cycle // 4 - of_cycle // 100
        + (153 * (month - 3) + 2) // 5 + day - 1
        - 719468
    )
    return True


cdef inline bint timestamp(const unsigned char *text, Py_ssize_t size, int64_t *us) noexcept:
    """`YYYY-MM-DD HH:MM:SS[.f…]`: microseconds since the epoch."""
    cdef int64_t days, hour, minute, second, fraction = 0
    cdef Py_ssize_t i
    if size < 19 or size == 20 or size > 26 or not date(text, &days):
        return False
    if text[10] != 32 or text[13] != 58 or text[16] != 58:
        return False
    if not digits(text + 11, 2, &hour) or not digits(text + 14, 2, &minute) or not digits(text + 17, 2, &second):
        return False
    if hour > 23 or minute > 59 or second > 59:
        return False
    if size > 19:
        if text[19] != 46 or not digits(text + 20, size - 20, &fraction):
            return False
        for i in range(26 - size):
            fraction *= 10
    us[0] = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction
    return True


cdef class Rows:
    """The rows of one relation.

    fields: for each column of the relation None (not kept) or (family of KINDS or "", number, nullable, key, bare,
    link, converter); a `bare` key needs no JSON escapes; `converter` takes any text of the column. escape: text → JSON.
    """

    cdef Column *columns
    cdef int count
    cdef list converters
    cdef object escape
    cdef str table
    cdef tuple errors
    cdef unsigned char *row
    cdef Py_ssize_t capacity

    def __cinit__(self, str table, list fields, object escape, tuple errors):
        cdef int i
        self.count = len(fields)
        self.columns = <Column *>PyMem_Malloc(max(1, self.count) * sizeof(Column))
        self.capacity = 4096
        self.row = <unsigned char *>PyMem_Malloc(self.capacity)
        if self.columns == NULL or self.row == NULL:
            raise MemoryError
        self.table = table
        self.escape = escape
        self.errors = errors
        self.converters = [None] * self.count
        for i, field in enumerate(fields):
            self.columns[i].kept = field is not None
            if field is None:
                continue
            family, number, nullable, key, bare, link, converter = field
            self.columns[i].kind = KINDS.get(family, OTHER)
            self.columns[i].number = number
            self.columns[i].nullable = nullable
            self.columns[i].key = key
            self.columns[i].bare = bare
            self.columns[i].link = link
            self.converters[i] = converter

    def __dealloc__(self):
        PyMem_Free(self.columns)
        PyMem_Free(self.row)

    cdef int reserve(self, Py_ssize_t size) except -1:
        cdef unsigned char *larger
        cdef Py_ssize_t capacity = self.capacity
        if size > capacity:
            while capacity < size:
                capacity *= 2
            larger = <unsigned char *>PyMem_Realloc(self.row, capacity)
            if larger == NULL:
                raise MemoryError
            self.row = larger
            self.capacity = capacity
        return 0

    cdef bytes converted(self, int column, bytes text):
        try:
            return self.converters[column](text)
        except self.errors as error:
            raise violation(f"a row of {self.table} cannot be decoded ({type(error).__name__})") from error

    def tuple_row(self, bytes data not None, Py_ssize_t at):
        """TupleData at `at` → (row, key, link, end); None when a kept value is unchanged TOAST."""
        cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(data) - PADDING
        cdef Py_ssize_t p = at + 2
        cdef Py_ssize_t written = 0, size
        cdef const unsigned char *text
        cdef unsigned char *out
        cdef Column *column
        cdef int i, kind
        cdef bint done
        cdef int64_t number = 0
        cdef uint64_t bits
        cdef bytes made
        key = link = None
        if at < 0 or p > end:
            raise violation("a row is cut short")
        if (m[at] << 8 | m[at + 1]) != self.count:
            raise violation("a row with another number of columns")
        for i in range(self.count):
            if p >= end:
                raise violation("a row is cut short")
            column = self.columns + i
            kind = m[p]
            if kind == 116:
                if end - p < 5:
                    raise violation("a row is cut short")
                size = <uint32_t>m[p + 1] << 24 | <uint32_t>m[p + 2] << 16 | <uint32_t>m[p + 3] << 8 | m[p + 4]
                p += 5
                if size > end - p:
                    raise violation("a row is cut short")
                text = m + p
                p += size
                if not column.kept:
                    continue
                if written + size + LONGEST > self.capacity:
                    self.reserve(written + size + LONGEST)
                out = self.row + written
                if column.nullable:
                    out[0] = 2
                    out += 1
                done = True
                kind = column.kind
                if kind == TEXT:
                    out = put_base128(out, <uint64_t>size << 1)
                    memcpy(out, text, size)
                    out += size
                elif kind == INTEGER:
                    done = integer(text, size, &number)
                    if done:
                        out = put_zigzag(out, number)
                elif kind == TIMESTAMP:
                    done = timestamp(text, size, &number)
                    if done:
                        if column.number != 1:  # rounded down, before the epoch, too
                            number = number // column.number - (number % column.number < 0)
                        out = put_zigzag(out, number)
                elif kind == BOOLEAN:
                    done = size == 1 and (text[0] == 116 or text[0] == 102)
                    out[0] = text[0] == 116
                    out += 1
                elif kind == DATE:
                    done = size == 10 and date(text, &number)
                    if done:
                        out = put_zigzag(out, number)
                elif kind == DECIMAL:
                    done = decimal(text, size, column.number, &number)
                    if done:
                        bits = <uint64_t>(number if number >= 0 else ~number)
                        size = 1
                        while bits >= 0x80:
                            bits >>= 8
                            size += 1
                        out[0] = <unsigned char>(size << 1)
                        out += 1
                        while size:
                            size -= 1
                            out[0] = <unsigned char>((<uint64_t>number >> (8 * size)) & 0xFF)
                            out += 1
                else:
                    done = False
                if done:
                    written = out - self.row
                else:
                    size = p - (text - m)
                    made = self.converted(i, PyBytes_FromStringAndSize(<const char *>text, size))
                    size = PyBytes_GET_SIZE(made)
                    self.reserve(written + size)
                    memcpy(self.row + written, PyBytes_AS_STRING(made), size)
                    written += size
                if column.key or column.link:
                    size = p - (text - m)
                    if column.link:
                        link = PyBytes_FromStringAndSize(<const char *>text, size)
                    if column.key:
                        if column.bare:
                            made = PyBytes_FromStringAndSize(NULL, size + 2)
                            out = <unsigned char *>PyBytes_AS_STRING(made)
                            out[0] = out[size + 1] = 34
                            memcpy(out + 1, text, size)
                        else:
                            made = self.escaped(PyBytes_FromStringAndSize(<const char *>text, size))
                        key = made if key is None else key + b"," + made
            elif kind == 110:
                p += 1
                if column.kept:
                    if column.key:
                        raise violation(f"a row of {self.table} has NULL in its key")
                    self.reserve(written + 1)
                    self.row[written] = 0
                    written += 1
            elif kind == 117:
                p += 1
                if column.kept:
                    return None
            else:
                raise violation("a column of unknown kind")
        return PyBytes_FromStringAndSize(<const char *>self.row, written), b"" if key is None else key, link, p

    cdef bytes escaped(self, bytes text):
        try:
            return self.escape(text)
        except self.errors as error:
            raise violation(f"a row of {self.table} cannot be decoded ({type(error).__name__})") from error


cdef inline unsigned char *put(unsigned char *out, bytes part) noexcept:
    memcpy(out, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
    return out + PyBytes_GET_SIZE(part)


def record(
    bytes head not None,
    bytes row not None,
    bytes second not None,
    bytes context not None,
    bytes data not None,
    int64_t ordinal,
    bytes op not None,
    bytes identity not None,
    int64_t order,
):
    """The bytes of one record; see `records.join_record`. `data` is the XLogData message, which holds the LSN."""
    cdef unsigned char[32] lsn_bytes
    cdef unsigned char[16] ordinal_bytes
    cdef unsigned char[16] order_bytes
    cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef uint64_t lsn = 0
    cdef int i
    cdef Py_ssize_t lsn_size, ordinal_size, order_size
    cdef unsigned char *out
    cdef bytes made
    if PyBytes_GET_SIZE(data) < 9:
        raise violation("an XLogData message is cut short")
    for i in range(1, 9):
        lsn = lsn << 8 | m[i]
    lsn_size = put_zigzag(lsn_bytes, <int64_t>lsn) - lsn_bytes
    ordinal_size = put_zigzag(ordinal_bytes, ordinal) - ordinal_bytes
    order_size = put_zigzag(order_bytes, order) - order_bytes
    made = PyBytes_FromStringAndSize(
        NULL,
        PyBytes_GET_SIZE(head)
        + PyBytes_GET_SIZE(row)
        + PyBytes_GET_SIZE(second)
        + PyBytes_GET_SIZE(context)
        + lsn_size
        + 2 * ordinal_size
        + PyBytes_GET_SIZE(op)
        + PyBytes_GET_SIZE(identity)
        + order_size
        + 1,
    )
    out = <unsigned char *>PyBytes_AS_STRING(made)
    out = put(put(put(put(out, head), row), second), context)
    memcpy(out, lsn_bytes, lsn_size)
    out += lsn_size
    memcpy(out, ordinal_bytes, ordinal_size)
    out = put(put(out + ordinal_size, op), identity)
    memcpy(out, ordinal_bytes, ordinal_size)
    out += ordinal_size
    memcpy(out, order_bytes, order_size)
    out[order_size] = 0
    return made


def murmur2(bytes data not None):
    """MurmurHash2 as Kafka seeds it, as an unsigned 32-bit number."""
    cdef const unsigned char *m = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef uint32_t h = 0x9747B28C ^ <uint32_t>size
    cdef uint32_t k
    while size >= 4:
        k = m[0] | <uint32_t>m[1] << 8 | <uint32_t>m[2] << 16 | <uint32_t>m[3] << 24
        k *= 0x5BD1E995
        k ^= k >> 24
        k *= 0x5BD1E995
        h = h * 0x5BD1E995 ^ k
        m += 4
        size -= 4
    if size:
        if size == 3:
            h ^= <uint32_t>m[2] << 16
        if size >= 2:
            h ^= <uint32_t>m[1] << 8
        h ^= m[0]
        h *= 0x5BD1E995
    h ^= h >> 13
    h *= 0x5BD1E995
    return h ^ h >> 15
