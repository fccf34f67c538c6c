// Runs before the first paint, so that a chosen theme never flashes the other one. A file of its own because
// the page's security policy allows no inline scripts.
(() => {
  try {
    const theme = localStorage.getItem("cairn.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be switched off; the system's scheme then decides.
  }
})();
