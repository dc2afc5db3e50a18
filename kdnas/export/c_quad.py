"""C text of sums of products for SSE2: groups of four rows or fewer, with inputs made ready for all of them."""

_QUAD = """\
#if KDNAS_VECTORS
/* Products of a group of `count` rows, `bytes` each, with inputs that were made ready. */
static inline __m128i kdnas_quad_{bits}(const uint8_t *at, size_t count, const __m128i *ready, size_t bytes)
{{
    const __m128i pieces = _mm_set1_epi16({mask});
    __m128i even = _mm_setzero_si128(), odd = even;
{steps}    return _mm_add_epi32(even, odd);
}}
#endif
"""

_QUAD_UNITS = """\
    for (size_t words = bytes / 4u; words > 0u; words--, at += 4u * count, ready += {vectors}) {{
        const __m128i four = kdnas_bytes(at, 4u * count);
{words}        KDNAS_KEEP(even);
        KDNAS_KEEP(odd);
    }}
    for (bytes %= 4u; bytes > 0u; bytes--, at += count, ready += {each}) {{
        const __m128i pair = _mm_unpacklo_epi8(kdnas_bytes(at, count), _mm_setzero_si128());
        const __m128i one = _mm_unpacklo_epi16(pair, _mm_setzero_si128());
{ones}    }}
"""

_QUAD_STREAMS = """\
    const __m128i low = _mm_set1_epi32(0xFFFF);
    for (; bytes > 0u; bytes -= {bits}u, at += {bits}u * count, ready += 4) {{
        for (size_t half = 0; half < 2u; half++) {{
            int32_t rows[4] = {{0}};
            for (size_t row = 0; row < count; row++)
                rows[row] = (int32_t)kdnas_take_{bits}(at + {bits}u * row, half);
            const __m128i four = _mm_set_epi32(rows[3], rows[2], rows[1], rows[0]);
            const __m128i above = _mm_andnot_si128(low, _mm_slli_epi32(four, {apart}));
            const __m128i two = _mm_or_si128(_mm_and_si128(four, low), above);
            even = _mm_add_epi32(even, _mm_madd_epi16(_mm_and_si128(two, pieces), ready[2u * half]));
            const __m128i second = _mm_and_si128(_mm_srli_epi16(two, {bits}), pieces);
            odd = _mm_add_epi32(odd, _mm_madd_epi16(second, ready[2u * half + 1u]));
        }}
    }}
"""


def quad(bits: int) -> str:
    """The function that multiplies a group of rows whose weights have these bits, stored as `c_pack` has them."""
    mask = (1 << bits) - 1
    steps = _units(bits) if 8 % bits == 0 else _QUAD_STREAMS.format(bits=bits, apart=16 - 2 * bits)
    return _QUAD.format(bits=bits, mask=mask, steps=steps)


def _units(bits: int) -> str:
    each = 8 // bits
    return _QUAD_UNITS.format(
        each=each,
        vectors=2 * each,
        words="".join(
            _product("        ", _vector_cut("four", index * bits + beyond, bits), 2 * index + (beyond > 0))
            for index in range(each)
            for beyond in (0, 8)
        ),
        ones="".join(_product("        ", _vector_cut("one", index * bits, bits, 8), index) for index in range(each)),
    )


def _product(indent: str, piece: str, index: int) -> str:
    into = "odd" if index % 2 else "even"
    return f"{indent}{into} = _mm_add_epi32({into}, _mm_madd_epi16({piece}, ready[{index}]));\n"


def _vector_cut(word: str, shift: int, bits: int, width: int = 16) -> str:
    """The piece of `bits` bits from one on, of lanes that hold `width` bits."""
    moved = f"_mm_srli_epi16({word}, {shift})" if shift else word
    return moved if shift + bits == width else f"_mm_and_si128({moved}, pieces)"
