// Draws a picture and the faces found in it. Coordinates arrive in pixels of the frame, where (0, 0) is the centre of
// the first pixel; the canvas has device pixels.

const RIM = "rgba(5, 7, 10, 0.75)";

// The canvas takes the largest place of its parent that has the frame's shape.
export function fit(canvas, [width, height]) {
  const room = canvas.parentElement;
  room.style.setProperty("--shape", `${width} / ${height}`);
  const zoom = Math.min(room.clientWidth / width, room.clientHeight / height);
  const shown = [width, height].map((side) => Math.max(1, Math.round(side * zoom)));
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.style.width = `${shown[0]}px`;
  canvas.style.height = `${shown[1]}px`;
  const [w, h] = shown.map((side) => Math.round(side * ratio));
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  return ratio;
}

export function drawFrame(canvas, bitmap, frame, scheme, layers) {
  const ratio = fit(canvas, frame.size);
  const context = canvas.getContext("2d");
  const zoom = canvas.width / frame.size[0];
  const place = ([x, y]) => {
    const across = (x + 0.5) * zoom;
    return [layers.mirror ? canvas.width - across : across, (y + 0.5) * zoom];
  };
  context.save();
  if (layers.mirror) {
    context.translate(canvas.width, 0);
    context.scale(-1, 1);
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  context.restore();
  context.lineCap = context.lineJoin = "round";
  const labels = [];
  for (const face of frame.faces) {
    const [left, right] = [place(face.box.slice(0, 2)), place(face.box.slice(2))];
    const box = {
      x: Math.min(left[0], right[0]), y: left[1], w: Math.abs(right[0] - left[0]), h: right[1] - left[1],
    };
    const side = Math.sqrt(Math.abs(box.w * box.h));
    if (layers.boxes) drawBox(context, box, side, ratio);
    const points = face.keypoints.map((one) => (known(one) ? place(one) : null));
    if (layers.points) drawPoints(context, points, side, ratio, scheme);
    if (layers.pose && face.pose) drawPose(context, points, face.pose, side, ratio, scheme, layers.mirror);
    if (layers.ids) labels.push([box, face]);
  }
  // Last: no other face lies over a label.
  for (const [box, face] of labels) drawLabel(context, box, face, ratio, canvas.width);
}

const known = (point) => point[0] !== null && point[1] !== null;

function stroke(context, width, colour) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

// Corners, with a faint line between them: the face stays free.
function drawBox(context, { x, y, w, h }, side, ratio) {
  const thin = Math.max(1.5 * ratio, Math.min(side / 110, 3 * ratio));
  const radius = Math.min(w, h) * 0.08;
  context.beginPath();
  context.roundRect(x, y, w, h, radius);
  stroke(context, Math.max(1, ratio), "rgba(255, 255, 255, 0.28)");
  const long = Math.min(w, h) * 0.2;
  context.beginPath();
  for (const [cx, cy, dx, dy] of [[x, y, 1, 1], [x + w, y, -1, 1], [x + w, y + h, -1, -1], [x, y + h, 1, -1]]) {
    context.moveTo(cx, cy + dy * long);
    context.arcTo(cx, cy, cx + dx * long, cy, radius);
    context.lineTo(cx + dx * long, cy);
  }
  stroke(context, thin + 2 * ratio, RIM);
  stroke(context, thin, "#ffffff");
}

function drawPoints(context, points, side, ratio, scheme) {
  if (!points.length) return;
  // From 30 points on dots become smaller: the lines between them show the shape.
  const few = Math.min(1, Math.sqrt(30 / points.length));
  const radius = few * Math.max(1.8 * ratio, Math.min(side / 56, 5.5 * ratio));
  const colourOf = [];
  for (const [part, members] of Object.entries(scheme.parts)) {
    for (const index of members) colourOf[index] = scheme.colours[part];
  }
  const lines = scheme.skeleton.filter(([a, b]) => points[a] && points[b]);
  for (const rim of [true, false]) {
    for (const [a, b] of lines) {
      context.beginPath();
      context.moveTo(...points[a]);
      context.lineTo(...points[b]);
      stroke(context, radius * 0.7 + (rim ? 1.6 * ratio : 0), rim ? RIM : colourOf[a]);
    }
  }
  points.forEach((point, index) => {
    if (!point) return;
    context.beginPath();
    context.arc(...point, radius, 0, 2 * Math.PI);
    stroke(context, 1.8 * ratio, RIM);
    context.fillStyle = colourOf[index];
    context.fill();
  });
}

// The head's axes, as the annotated picture shows them: red to the picture's right, green up, blue where the face looks.
// Pitch turns first, roll last. In a mirror the head turns and leans the other way.
function drawPose(context, points, pose, side, ratio, scheme, mirror) {
  const found = points.filter(Boolean);
  const tip = scheme.points.indexOf("nose_tip");
  const start = tip >= 0 ? points[tip] : [0, 1].map((axis) => found.reduce((sum, one) => sum + one[axis], 0) / found.length);
  if (!found.length || !start) return;
  const sign = mirror ? -1 : 1;
  const [yaw, pitch, roll] = [sign * pose.yaw, pose.pitch, sign * pose.roll].map((angle) => (angle * Math.PI) / 180);
  const axes = [
    ["#ff4646", Math.cos(yaw), 0],
    ["#5ae65a", -Math.sin(yaw) * Math.sin(pitch), -Math.cos(pitch)],
    ["#4696ff", Math.sin(yaw) * Math.cos(pitch), -Math.sin(pitch)],
  ];
  for (const [colour, across, down] of axes) {
    const dx = Math.cos(roll) * across - Math.sin(roll) * down;
    const dy = Math.sin(roll) * across + Math.cos(roll) * down;
    context.beginPath();
    context.moveTo(...start);
    context.lineTo(start[0] + dx * side * 0.45, start[1] + dy * side * 0.45);
    stroke(context, 5 * ratio, RIM);
    stroke(context, 2.5 * ratio, colour);
  }
}

function drawLabel(context, box, face, ratio, width) {
  const words = [];
  if (face.id !== undefined) words.push(`#${face.id}`);
  if (face.score !== null) words.push(face.score.toFixed(2));
  if (!words.length) return;
  const size = 12.5 * ratio;
  context.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  const gap = 7 * ratio;
  const widths = words.map((word) => context.measureText(word).width);
  const w = widths.reduce((sum, one) => sum + one, 0) + gap * (words.length + 1);
  const h = size * 1.65;
  const x = Math.max(2, Math.min(box.x, width - w - 2));
  const y = box.y - h - 5 * ratio < 2 ? Math.max(2, box.y + 5 * ratio) : box.y - h - 5 * ratio;
  context.beginPath();
  context.roundRect(x, y, w, h, h / 2);
  context.fillStyle = "rgba(9, 12, 17, 0.82)";
  context.fill();
  context.textBaseline = "middle";
  let at = x + gap;
  words.forEach((word, index) => {
    context.fillStyle = index === 0 && face.id !== undefined ? "#ffffff" : "#b9c6d8";
    context.fillText(word, at, y + h / 2 + ratio * 0.5);
    at += widths[index] + gap;
  });
}
