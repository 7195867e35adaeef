export OMP_NUM_THREADS=1 PYTHONPATH=.
K="nice -n 19 python -m kpedge"
S=$SETS/src; cd $SETS
T3="iBUG 300-W annotations, research only"; TM="MTFL, research use"; TU="UTKFace, non-commercial research"; TI="web photos gathered for a course, no licence stated: research use"; TK="public Kaggle set"; TP="FFHQ / MaskedFace-Net, CC BY-NC-SA 4.0"; TA="AFW, research use"; TE="ImageNet sample and BSDS500, research use"; TF="Flickr8k, research use"
$K data synth --out synthetic-frames --count 800 --seed 2 --frames
$K data prepare $S/facemask --out frames/facemask --frames --format label --scheme faces21 --test 0.2 --name facemask --terms "$TK"
$K data prepare $S/portraits --out frames/portraits --frames --format label --scheme faces21 --test 0.1 --name portraits --terms "$TP"
$K data prepare $S/mask_ilc --out frames/mask_ilc --frames --format label --scheme faces21 --test 0 --validation 0.12 --name mask_ilc --terms "$TI"
$K data prepare $S/afw_boxes --out frames/afw_boxes --frames --format label --scheme faces21 --test 0 --validation 0.2 --name afw_boxes --terms "$TA"
$K data prepare $S/people_pseudo --out frames/people_pseudo --frames --format label --scheme faces21 --test 0 --validation 0.2 --name people_pseudo --terms "$TE"
$K data prepare $S/flickr_pseudo --out frames/flickr_pseudo --frames --format label --scheme faces21 --test 0 --validation 0.15 --name flickr_pseudo --terms "$TF"
$K data prepare synthetic-frames --out frames/synthetic --frames --test 0 --validation 0.05 --name synthetic --terms "rendered, free"
