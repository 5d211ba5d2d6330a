"""The numbers that ``math_formulas.py`` is written with, a row for each float type.

The polynomials are minimax fits by Remez's algorithm, made by ``test/support/fit_polynomials.py``; a test makes them
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import AnyFloat, Float32Type, Float64Type, IntegerType, f32, f64, i32, i64
from xdsl.ir import Attribute

Polynomial = tuple[float, ...]
"""Coefficients, the constant term first."""


@dataclass(frozen=True)
class Numbers:
    """Of one float type: its bits, ln 2 in it, polynomials and where functions reach their ends."""

    float_type: AnyFloat
    integer_type: IntegerType
    mantissa_bits: int
    bias: int
    sqrt_half_bits: int
    """sqrt(1/2), its bits as an integer."""
    log2_e: float
    ln2: float
    ln2_high: float
    """ln 2 to so few bits that a product with any exponent is exact."""
    ln2_low: float
    """What ``ln2_high`` lacks."""
    exp_range: tuple[float, float]
    """Where e^x is neither 0 nor infinite, and a little more."""
    exp2_range: tuple[float, float]
    """The same for 2^x."""
    tanh_one: float
    """From here on tanh(x) rounds to 1."""
    erf_one: float
    """From here on erf(x) rounds to 1."""
    exp: Polynomial
    """e^r = 1 + r * P(r) for r in [-ln(2)/2, ln(2)/2]."""
    exp2: Polynomial
    """2^r = 1 + r * P(r) for r in [-1/2, 1/2]."""
    expm1: Polynomial
    """e^r - 1 = r + r^2 * P(r) for r in [-ln(2)/2, ln(2)/2]."""
    log: Polynomial
    """log(1 + f) = f + f^2 * P(f) for 1 + f in [sqrt(1/2), sqrt(2)]."""
    tanh: Polynomial
    """tanh(x) = x + x^3 * P(x^2) for x in [0, 0.6]."""
    erf: Polynomial
    """-log(1 - erf(a)) = a + a * P(a) for a in [0, ``erf_one``]."""

    @property
    def round(self) -> float:
        """What is added and taken off again to round to an integer: the last bit of such a number is 1."""
        return 1.5 * 2.0**self.mantissa_bits

    @property
    def min_normal(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


F32 = Numbers(
    float_type=f32,
    integer_type=i32,
    mantissa_bits=23,
    bias=127,
    sqrt_half_bits=0x3F3504F3,
    log2_e=1.4426950216293335,
    ln2=0.6931471824645996,
    ln2_high=0.693359375,  # 355 / 512
    ln2_low=-0.00021219444170128554,
    exp_range=(-104.0, 89.0),
    exp2_range=(-151.0, 129.0),
    tanh_one=9.02,
    erf_one=3.93,
    exp=(
        1.0,
        0.49999991059303284,
        0.1666644811630249,
        0.04166853427886963,
        0.008373168297111988,
        0.001381587004289031,
    ),
    exp2=(
        0.6931471824645996,
        0.24022646248340607,
        0.05550338327884674,
        0.00961855985224247,
        0.001339728245511651,
        0.00015322549734264612,
    ),
    expm1=(
        0.4999999403953552,
        0.1666652113199234,
        0.04166838899254799,
        0.008368716575205326,
        0.001381459878757596,
    ),
    log=(
        -0.49999991059303284,
        0.33333951234817505,
        -0.25001755356788635,
        0.19962053000926971,
        -0.1657046526670456,
        0.14918147027492523,
        -0.14307937026023865,
        0.08734841644763947,
    ),
    tanh=(
        -0.33333298563957214,
        0.13331924378871918,
        -0.053783830255270004,
        0.020795971155166626,
        -0.005895158275961876,
    ),
    erf=(
        0.12837916612625122,
        0.6366193890571594,
        0.10277783125638962,
        -0.019153064116835594,
        -0.00016039599722716957,
        0.001667027361690998,
        -0.0006328367744572461,
        0.00011764124792534858,
        -9.256262273993343e-06,
    ),
)

F64 = Numbers(
    float_type=f64,
    integer_type=i64,
    mantissa_bits=52,
    bias=1023,
    sqrt_half_bits=0x3FE6A09E667F3BCD,
    log2_e=1.4426950408889634,
    ln2=0.6931471805599453,
    ln2_high=0.6931471803691238,  # 32 bits
    ln2_low=1.9082149292705877e-10,
    exp_range=(-746.0, 710.0),
    exp2_range=(-1077.0, 1025.0),
    tanh_one=19.1,
    erf_one=5.93,
    exp=(
        1.0,
        0.5000000000000012,
        0.1666666666666589,
        0.041666666666517,
        0.008333333333668176,
        0.0013888888946624724,
        0.00019841269250725325,
        2.4801490323366732e-05,
        2.7557758996828164e-06,
        2.763115205042357e-07,
        2.495641128085348e-08,
    ),
    exp2=(
        0.6931471805599454,
        0.2402265069591013,
        0.055504108664819,
        0.009618129107593958,
        0.0013333558146963833,
        0.0001540353045737534,
        1.5252733350306541e-05,
        1.3215435136138324e-06,
        1.0178248391222867e-07,
        7.073809676549516e-09,
        4.428557174419029e-10,
    ),
    expm1=(
        0.5000000000000011,
        0.16666666666666413,
        0.041666666666530155,
        0.008333333333494465,
        0.0013888888943630246,
        0.00019841269506570155,
        2.480149309876675e-05,
        2.7557586381808903e-06,
        2.763024842904193e-07,
        2.500005899522265e-08,
    ),
    log=(
        -0.5,
        0.33333333333333487,
        -0.2499999999999807,
        0.19999999999936452,
        -0.16666666667007624,
        0.14285714294820456,
        -0.12499999977281974,
        0.1111111046504772,
        -0.10000000501854482,
        0.09090935036609404,
        -0.08333344598648385,
        0.07691686994087664,
        -0.07141991288269167,
        0.06675437892156928,
        -0.06270129106423125,
        0.05816154164862988,
        -0.05323761171593578,
        0.054193958912969825,
        -0.06285301864814742,
        0.05699461500641208,
        -0.024231992396953804,
    ),
    tanh=(
        -0.33333333333333126,
        0.1333333333329966,
        -0.05396825394929424,
        0.021869488002534836,
        -0.008863226777145895,
        0.003592037377194714,
        -0.0014552153537503569,
        0.0005871883786196566,
        -0.00023039676042928346,
        7.931389539570195e-05,
        -1.7178698612895988e-05,
    ),
    erf=(
        0.1283791670955126,
        0.6366197723675816,
        0.10277260330192355,
        -0.019128447008672115,
        -0.0002091946442568918,
        0.0016962059533275617,
        -0.0005901230955088859,
        2.5868762294624715e-05,
        6.452080097773997e-05,
        -2.97884110771099e-05,
        3.5179604635619855e-06,
        2.685476413427744e-06,
        -1.5805055998338097e-06,
        1.972381159632959e-07,
        2.3424444940261716e-07,
        -1.9661412778251482e-07,
        9.085253709390075e-08,
        -3.0260907444539873e-08,
        7.7639197527221e-09,
        -1.563131220263099e-09,
        2.463524036262231e-10,
        -2.9869882368583796e-11,
        2.6937698187121426e-12,
        -1.7023889919718952e-13,
        6.726463803748234e-15,
        -1.2499255788442325e-16,
    ),
)

NUMBERS: Mapping[type[Attribute], Numbers] = {Float32Type: F32, Float64Type: F64}
"""By the type of floats."""
