// Files as people bring them to the page: chosen, or dropped on the stage.

/**
 * Hand each file to `take`.
 * @param {{stage: HTMLElement, input: HTMLInputElement, take: (file: File) => void,
 *   none: () => void}} places `none`: what was dropped is no file
 */
export function takeFiles({ stage, input, take, none }) {
  input.addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) take(file);
  });
  stage.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
  stage.addEventListener("dragleave", () => stage.classList.remove("over"));
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
    else none();
  });
}
