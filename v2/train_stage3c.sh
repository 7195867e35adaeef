# stage 3 v2, third phase: from the last epoch of the second, milder disturbances, falling learning rate
cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; C=$SETS/crops
exec nice -n 19 python -m kpedge train stage3 --data $C/faces21 --also $C/youtube68 --also $C/mtfl5 \
  --also $C/helen_afw68 --also $C/aflw5 --also $C/utk_pseudo21 --also $C/mask_ilc-points --also $C/facemask --also $C/portraits \
  --also $C/mask_ilc --also $C/afw_boxes --also $C/people_pseudo --also $C/flickr_pseudo --also $C/noface --also $C/synthetic \
  --also $C/synthetic-faceless --also $C/hard --init-from v2/runs/stage3b/last.pt --out v2/runs/stage3c --negatives 0.4 \
  --epochs 66 --schedule cosine --lr 1e-3 --others 2 --roll 65 --roll-peak 3.5 --scale 0.12 --shift 0.1 --peak 5 --dark 0.1 \
  --worn 0.12 --occlusion 0.15 --blur 1.2 --lowres 0.2 --precision bfloat16 --threads 1 "$@"
