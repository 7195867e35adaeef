# stage 3 v2, fifth phase: from the middle between the released weights and the fourth phase (soup/soup0.5.pt)
cd .; export OMP_NUM_THREADS=1 PYTHONPATH=.; C=$SETS/crops; H="--also $C/helen_afw68"
exec nice -n 19 python -m kpedge train stage3 --data $C/faces21 --also $C/youtube68 $H $H $H $H \
  --also $C/aflw5 --also $C/utk_pseudo21 --also $C/mask_ilc-points --also $C/facemask --also $C/portraits \
  --also $C/mask_ilc --also $C/afw_boxes --also $C/people_pseudo --also $C/flickr_pseudo --also $C/noface \
  --also $C/synthetic-faceless --also $C/hard --init-from v2/soup/soup0.5.pt --out v2/runs/stage3e --negatives 0.35 \
  --epochs 9 --schedule cosine --lr 4e-4 --others 1.2 --roll 65 --roll-peak 4 --scale 0.12 --shift 0.1 --peak 5 --dark 0.08 \
  --worn 0.1 --occlusion 0.15 --blur 1.2 --lowres 0.2 --precision bfloat16 --threads 1 "$@"
