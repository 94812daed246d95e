const $ = (query) => [...document.querySelectorAll(query)];
const box = document.getElementById("filter"), only = document.getElementById("only");
const label = document.getElementById("label"), shown = document.getElementById("shown");
function filter() {
  const words = box.value.toLowerCase();
  let count = 0;
  for (const article of $("#explanations article")) {
    const text = (article.closest("section").querySelector("h3").textContent + article.textContent).toLowerCase();
    const fits = text.includes(words) && (!only.checked || article.classList.contains("disagrees"))
      && (!label.value || article.dataset.label === label.value);
    article.hidden = !fits;
    count += fits;
  }
  for (const section of $("#explanations section")) {
    section.hidden = !section.querySelector("article:not([hidden])");
    const entry = document.querySelector(`#contents a[href="#${section.id}"]`);
    if (entry) entry.parentElement.hidden = section.hidden;
  }
  shown.textContent = `${count} shown`;
}
if (box) {
  document.getElementById("controls").hidden = false;
  for (const control of [box, only, label]) control.addEventListener("input", filter);
  filter();
}
