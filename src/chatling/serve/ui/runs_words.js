// What the dashboard says, in English and Chinese. Titles and labels of charts come from the stages, in English, and are their own names here.

export const en = {
  noRuns: "There are no runs yet.", noRunsHint: "Start one with `chatling run pocket`; it shows here at once.", allRuns: "Runs", stage: "Stage",
  stages: "Stages", running: "running", done: "done", stoppedState: "stopped", failedState: "failed", cutOff: "cut off", notRunning: "not running",
  process: "process {process}", left: "{time} left", leftAll: "about {time} left of the whole run", took: "{time}",
  steps: "step {step} of {steps}", resumes: "resumed {count} times", updated: "Updated {time}", report: "Report", follow: "Follow the training",
  charts: "Curves", noCurves: "No steps yet.", step: "step", noPoints: "no points here", smoothing: "Smoothing", off: "off", logAxis: "Log axis",
  noLog: "not logarithmic: values of 0 or less", whole: "All steps", csv: "CSV", csvLong: "Save what is shown as CSV", overlay: "Compare with other runs",
  chartKeys: "Drag over a chart to see some steps, double-click for all. By keyboard: arrows, Page and Home/End move, + and − zoom, 0 shows all.",
  samples: "Latest samples", samplesAt: "after step {step}", evals: "Evaluations", questions: "{correct} of {total}", chance: "chance {percent} %",
  evalChat: "questions", evalCore: "CORE", evalBpb: "bits per byte", evalHarness: "lm-eval",
  aheadLoss: "loss ahead of earlier runs ({low}–{high})", insideLoss: "loss as in earlier runs ({low}–{high})",
  behindLoss: "loss behind earlier runs ({low}–{high})",
};

export const zh = {
  noRuns: "还没有训练。", noRunsHint: "运行 `chatling run pocket`，这里立即可见。", allRuns: "训练列表", stage: "阶段", stages: "阶段", running: "进行中", done: "完成",
  stoppedState: "已停止", failedState: "失败", cutOff: "中断", notRunning: "未运行", process: "进程 {process}", left: "剩余 {time}",
  leftAll: "整个训练约剩 {time}", took: "{time}", steps: "第 {step} 步，共 {steps} 步", resumes: "恢复 {count} 次", updated: "更新于 {time}", report: "报告",
  follow: "跟随训练", charts: "曲线", noCurves: "还没有步骤。", step: "步", noPoints: "此处没有数据", smoothing: "平滑", off: "关", logAxis: "对数轴",
  noLog: "无法取对数：有不大于 0 的值", whole: "全部步骤", csv: "CSV", csvLong: "将所示内容存为 CSV", overlay: "与其他训练比较",
  chartKeys: "在图上拖动可放大一段，双击恢复。键盘：方向键、翻页键、Home/End 移动，+ 和 − 缩放，0 恢复。", samples: "最新样本",
  samplesAt: "第 {step} 步之后", evals: "评测", questions: "{total} 题对 {correct} 题", chance: "随机 {percent} %",
  evalChat: "问题", evalCore: "CORE", evalBpb: "每字节比特", evalHarness: "lm-eval",
  aheadLoss: "损失好于以往训练（{low}–{high}）", insideLoss: "损失与以往训练相当（{low}–{high}）", behindLoss: "损失差于以往训练（{low}–{high}）",
  // titles of charts
  "Loss, nats a token": "损失（nat/词元）", "Loss a pair": "每对损失", "Loss of the policy gradient": "策略梯度损失",
  "Bits per byte, validation": "每字节比特（验证）", "Token accuracy, validation": "词元准确率（验证）", "CORE": "CORE",
  "Learning rate, share of its peak": "学习率（占峰值）", "Gradient norm": "梯度范数", "Tokens a second": "每秒词元", "Peak memory, GB": "内存峰值（GB）",
  "Use of the GPU, percent": "GPU 使用率（%）", "Margin of the preferred answer": "较好回答的优势", "Pair accuracy, validation": "成对准确率（验证）",
  "Reward of sampled answers": "采样回答的奖励", "Questions answered correctly": "答对的问题", "Tokens in an answer": "每个回答的词元",
  "Distance from the model before, nats a token": "与之前模型的距离（nat/词元）",
  // labels of curves
  "training": "训练", "validation": "验证", "bits per byte": "每字节比特", "token accuracy": "词元准确率", "share of the peak rate": "占峰值学习率",
  "norm": "范数", "tokens a second": "每秒词元", "GPU memory": "GPU 内存", "memory of the process": "进程内存", "use of the GPU": "GPU 使用率",
  "pair accuracy": "成对准确率", "reward": "奖励", "one sample": "一个样本", "of eight": "八个之一", "question accuracy": "问题准确率",
  "tokens in an answer": "每个回答的词元", "distance": "距离",
};
