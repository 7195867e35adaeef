set -e
export OMP_NUM_THREADS=1 PYTHONPATH=.
K="nice -n 19 python -m kpedge"
D=$DATA; cd $SETS
$K data prepare $D/faces21 --out crops/faces21 --negatives 5 --name faces21 --terms "course data, research use"
$K data prepare $D/faces21 --out frames/faces21 --frames --name faces21 --terms "course data, research use"
$K data prepare $D/noface --out frames/noface --frames --format faceless --validation 0.2 --name noface --terms "research use"
$K data prepare $D/noface --out crops/noface --format faceless --negatives 10 --terms "research use"
$K data prepare $D/youtube68 --out crops/youtube68 --scheme faces21 --negatives 1 --terms "MIT repository, YouTube Faces frames, research use"
$K data prepare $D/mtfl5 --out crops/mtfl5 --scheme faces21 --negatives 1 --terms "MTFL, research use"
