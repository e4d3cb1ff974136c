"""Statistics over seeds: estimates with their intervals, comparisons, and the verdicts of a study's claims.

Seeds are the only replicates: steps and examples never are, and arrays that have them are refused. Reads datasets,
trains nothing. `docs/statistics.md` says what is used when and why.
"""

from jaxexp.statistics._choosing import Choice as Choice
from jaxexp.statistics._choosing import choose_and_judge as choose_and_judge
from jaxexp.statistics._comparisons import Comparison as Comparison
from jaxexp.statistics._comparisons import holm as holm
from jaxexp.statistics._comparisons import paired as paired
from jaxexp.statistics._comparisons import probability_of_improvement as probability_of_improvement
from jaxexp.statistics._evidence import p_value as p_value
from jaxexp.statistics._intervals import INTERVALS as INTERVALS
from jaxexp.statistics._intervals import Estimate as Estimate
from jaxexp.statistics._intervals import constant_interval as constant_interval
from jaxexp.statistics._intervals import iqm_interval as iqm_interval
from jaxexp.statistics._intervals import mean_interval as mean_interval
from jaxexp.statistics._intervals import median_interval as median_interval
from jaxexp.statistics._intervals import share_interval as share_interval
from jaxexp.statistics._two_stages import power_of_difference as power_of_difference
from jaxexp.statistics._two_stages import seeds_needed as seeds_needed
from jaxexp.statistics._two_stages import two_stage_interval as two_stage_interval
from jaxexp.statistics._verdicts import HOLDS as HOLDS
from jaxexp.statistics._verdicts import NOT_SHOWN as NOT_SHOWN
from jaxexp.statistics._verdicts import REFUTED as REFUTED
from jaxexp.statistics._verdicts import ClaimsError as ClaimsError
from jaxexp.statistics._verdicts import Verdict as Verdict
from jaxexp.statistics._verdicts import check as check
from jaxexp.statistics._verdicts import per_seed as per_seed
