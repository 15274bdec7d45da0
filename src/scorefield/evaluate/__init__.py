"""Reports on trained models."""

from scorefield.evaluate.comparison import METRICS as METRICS
from scorefield.evaluate.comparison import Metric as Metric
from scorefield.evaluate.comparison import Number as Number
from scorefield.evaluate.comparison import check_enough as check_enough
from scorefield.evaluate.comparison import compare as compare
from scorefield.evaluate.evaluation import Evaluation as Evaluation
from scorefield.evaluate.evaluation import evaluate as evaluate
from scorefield.evaluate.findings import Finding as Finding
from scorefield.evaluate.label_features import LabelFeatures as LabelFeatures
from scorefield.evaluate.label_features import train_label_features as train_label_features
from scorefield.evaluate.ledger import Ledger as Ledger
from scorefield.evaluate.paths import Paths as Paths
from scorefield.evaluate.paths import paths as paths
from scorefield.evaluate.report import FIGURES as FIGURES
from scorefield.evaluate.report import REPORTS as REPORTS
from scorefield.evaluate.report import write_report as write_report
from scorefield.evaluate.work import Effort as Effort
from scorefield.evaluate.work import Sets as Sets
